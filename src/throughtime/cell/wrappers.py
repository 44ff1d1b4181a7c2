"""What every cell around a cell has in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.cell.base import Cell
from throughtime.check import one_of
from throughtime.errors import RecipeError

__all__ = ["Wrapper", "follow"]


class Wrapper(Cell):
    """A cell around another cell: same sizes, same state, and no kernel, since its equations are not the cell's.

    A wrapper that needs random masks draws them in `project`, appends them to what the cell projects, and splits them
    off in `step`. Every scan of one projected tensor thus uses the same masks.

    Args:
        cell: what goes inside.
        parts: names of the parts of the state that the wrapper changes, or one name, or None for all parts.

    Attributes:
        cell: what is inside; its parameters are named `cell.*`.
        parts: the names.

    Raises:
        RecipeError: if `cell` is no Cell, or `parts` is empty or names a part twice, one that the state does not have
            or one that has no meaning by itself.
    """

    def __init__(self, cell: Cell, parts: Sequence[str] | None) -> None:
        if not isinstance(cell, Cell):
            raise RecipeError(f"{type(self).__name__} goes around a Cell, not around {cell!r}: make the cell first")
        super().__init__(cell.input_size, cell.hidden_size, output_size=cell.output_size)
        self.cell = cell
        self.state_names = cell.state_names  # type: ignore[misc]  # known only once there is a cell
        if parts is None:
            parts = self.state_names
        self.parts = (parts,) if isinstance(parts, str) else tuple(parts)
        self._check_parts()
        self._indices = tuple(self.state_names.index(part) for part in self.parts)
        state = cell.initial_state(1)
        self._shapes = tuple(state[index].shape[1:] for index in self._indices)

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """That of the cell."""
        return self.cell.initial_state(batch, device=device, dtype=dtype)

    def project(self, x: Tensor) -> Tensor:
        """That of the cell: (T, B, I) -> (T, B, G)."""
        return self.cell.project(x)

    def reset_parameters(self) -> None:
        """Draw all parameters of the cell anew."""
        self.cell.reset_parameters()

    def _check_parts(self) -> None:
        name = type(self).__name__
        for part in self.parts:
            one_of("part of the state", part, self.state_names)
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise RecipeError(
                f"{name} needs parts of the state ({', '.join(self.state_names)}), each once, not {self.parts}"
            )
        inside = _innermost(self.cell)
        if set(self.parts) & set(inside.one_memory):
            free = [part for part in self.state_names if part not in inside.one_memory]
            may_change = f"{', '.join(free)} alone" if free else "no part"
            *others, unit = inside.one_memory
            raise RecipeError(
                f"{name} around an {type(inside).__name__} can change {may_change}, "
                f"not {', '.join(self.parts)}: {', '.join(others)} and {unit} are one memory in units of exp({unit})"
            )

    def _append(self, projected: Tensor, masks: Tensor) -> Tensor:
        """(T, B, G) and masks (T or 1, B, M), M for the features of all parts, -> (T, B, G + M)."""
        return torch.cat([projected, masks.expand(projected.size(0), -1, -1).to(projected.dtype)], dim=2)

    def _num_masked(self) -> int:
        return sum(shape.numel() for shape in self._shapes)

    def _split(self, projected: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, G + M) -> (B, G) and for each part a bool mask (B, ...)."""
        sizes = [shape.numel() for shape in self._shapes]
        own, *masks = torch.split(projected, [projected.size(1) - sum(sizes), *sizes], dim=1)
        return own, [mask.reshape(mask.size(0), *shape) != 0 for mask, shape in zip(masks, self._shapes, strict=True)]


def follow(output: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """The output that goes with a changed state.

    Where a cell hands out a part of its state (the same tensor object, as most cells do with h), the output changes
    with that part; where the output is a tensor of its own, it stays.
    """
    return next((new for old, new in zip(before, after, strict=True) if output is old), output)


def _innermost(cell: Cell) -> Cell:
    while isinstance(cell, Wrapper):
        cell = cell.cell
    return cell
