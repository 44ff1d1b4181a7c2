"""Layer normalisation of the state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

from torch import Tensor, nn

from throughtime.cell.base import Cell
from throughtime.cell.wrappers import Wrapper, follow
from throughtime.errors import RecipeError

__all__ = ["StateNorm"]


@final
class StateNorm(Wrapper):
    r"""A cell whose state leaves each step normalised over its units.

        s_t = gain * (s~_t - mean(s~_t)) / sqrt(var(s~_t) + eps) + shift

    for each chosen part s of the state, where s~_t is what the cell computes from the normalised s_{t-1}. It keeps a
    state at one scale however long the sequence. Where the cell's output is such a part, the output is normalised too.

    *Reference*: Ba, Kiros & Hinton 2016, *Layer normalization*, arXiv:1607.06450.

    Departures: the paper normalises the sums before the nonlinearity, which lie inside the cell's equations (for the
    LSTM see `LayerNormLSTM`); this norm can go around any cell. The initial state stays as the cell gives it.

    Args:
        cell: what goes inside.
        parts: which parts of the state, or one name; each of real numbers, with at least two features.
        eps: what keeps the root from zero.

    Attributes:
        norms: one `torch.nn.LayerNorm` for each part, over its last axis; gain 1 and shift 0 at the start.

    Raises:
        RecipeError: if a part is not one of the state or cannot be normalised, or `eps` is not above 0.

    Example:
        >>> import torch
        >>> from throughtime.cell.gru import GRU
        >>> cell = StateNorm(GRU(3, 5))
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y is h, round(h.square().mean().item(), 2)
        (True, 1.0)
    """

    def __init__(self, cell: Cell, *, parts: Sequence[str] = ("h",), eps: float = 1e-5) -> None:
        super().__init__(cell, parts)
        if not eps > 0:
            raise RecipeError(f"eps must be above 0, not {eps:g}")
        self.norms = nn.ModuleList()
        state = cell.initial_state(1)
        for part, index in zip(self.parts, self._indices, strict=True):
            like = state[index]
            if not like.is_floating_point() or like.dim() < 2 or like.size(-1) < 2:
                raise RecipeError(
                    f"part {part} of {type(cell).__name__} cannot be normalised: it must hold real numbers in at "
                    f"least two features, and is {like.dtype} of shape (B, {', '.join(map(str, like.shape[1:]))})"
                )
            self.norms.append(nn.LayerNorm(like.size(-1), eps, device=like.device, dtype=like.dtype))

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: (B, G), state -> the next state, output."""
        computed, output = self.cell.step(projected, state)
        after = list(computed)
        for index, norm in zip(self._indices, self.norms, strict=True):
            after[index] = norm(computed[index])
        return tuple(after), follow(output, computed, after)

    def reset_parameters(self) -> None:
        """Draw all parameters of the cell anew, and set the norms back to gain 1 and shift 0."""
        self.cell.reset_parameters()
        for norm in self.norms:
            cast(nn.LayerNorm, norm).reset_parameters()

    def extra_repr(self) -> str:
        """The parts, for `print`."""
        return f"parts={self.parts}"
