"""A skip connection in time."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from throughtime.cell.base import Cell
from throughtime.check import at_least
from throughtime.errors import RecipeError

__all__ = ["SkipInTime"]


@final
class SkipInTime(Cell):
    r"""A cell that reads its state of k steps before beside that of the last step.

        h_t, ... = cell(x_t, (h_{t-1} + h_{t-k}) / sqrt(2), ...)

    for the first part h of the state. A gradient then passes k steps at once: a cell that lets through a share s of it
    at each step, so that s^k is left after k, lets through about s^2 of them in all that many. The root keeps the size
    of a sum of two states that have nothing to do with each other.

    *References*: Lin, Horne, Tino & Giles 1996, *Learning long-term dependencies in NARX recurrent neural networks*,
    doi:10.1109/72.548162; Zhang et al. 2016, *Architectural complexity measures of recurrent neural networks*,
    arXiv:1602.08210 (the recurrent skip coefficient).

    Departure: both states go through the same weights.

    Args:
        cell: what goes inside; the first part of its state must be (B, H).
        steps: k, at least 2.

    Raises:
        RecipeError: if `cell` is no such Cell, or `steps` is below 2.

    Example:
        >>> from throughtime.cell.gru import GRU
        >>> cell = SkipInTime(GRU(3, 5), steps=4)
        >>> (h, past), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y is h, past.shape
        (True, torch.Size([2, 4, 5]))
    """

    def __init__(self, cell: Cell, *, steps: int) -> None:
        if not isinstance(cell, Cell):
            raise RecipeError(f"SkipInTime goes around a Cell, not around {cell!r}: make the cell first")
        super().__init__(cell.input_size, cell.hidden_size, output_size=cell.output_size)
        at_least("steps of SkipInTime", steps, 2)
        if cell.state_names[0] in cell.one_memory or cell.initial_state(1)[0].dim() != 2:
            raise RecipeError(
                f"SkipInTime needs a state whose first part can be mixed, which {type(cell).__name__} lacks"
            )
        self.cell = cell
        self.steps = steps
        self.state_names = (*cell.state_names, "past")  # type: ignore[misc]  # known only once there is a cell

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """That of the cell, and k times the first part of it."""
        state = self.cell.initial_state(batch, device=device, dtype=dtype)
        return (*state, state[0].unsqueeze(1).repeat(1, self.steps, 1))

    def project(self, x: Tensor) -> Tensor:
        """That of the cell: (T, B, I) -> (T, B, G)."""
        return self.cell.project(x)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: (B, G), state -> the next state, output."""
        h, *rest, past = state
        mixed = (h + past[:, 0]) / math.sqrt(2)
        after, output = self.cell.step(projected, (mixed, *rest))
        return (*after, torch.cat([past[:, 1:], after[0].unsqueeze(1)], dim=1)), output

    def reset_parameters(self) -> None:
        """Draw all parameters of the cell anew."""
        self.cell.reset_parameters()

    def extra_repr(self) -> str:
        """The steps, for `print`."""
        return f"steps={self.steps}"
