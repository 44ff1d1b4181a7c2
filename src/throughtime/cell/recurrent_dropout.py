"""Dropout of the recurrent connections, one mask for a whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from throughtime.cell.base import Cell
from throughtime.cell.wrappers import Wrapper
from throughtime.errors import RecipeError

__all__ = ["RecurrentDropout"]


@final
class RecurrentDropout(Wrapper):
    r"""A cell that, in training, does not see some units of its own state, the same ones throughout a sequence.

        s_t, y_t = cell(x_t, d * s_{t-1} / (1 - rate)),    d ~ Bernoulli(1 - rate), drawn once for a sequence

    *Reference*: Gal & Ghahramani 2016, *A theoretically grounded application of dropout in recurrent neural networks*,
    arXiv:1512.05287.

    Departures: the recurrent half of the paper alone (a layer's `dropout` is between layers, and another mask at each
    step); one mask for all gates, the paper's tied weights. The mask falls on the state as it enters the step: that is
    the paper's form where a part enters through matrix products alone (h of the Elman cell and of every LSTM here). A
    part that the cell also carries along (c of an LSTM, h of a GRU) would be wiped or multiplied by 1 / (1 - rate) at
    every step; use `Zoneout` for those. Dropping the candidate alone (Semeniuta, Severyn & Barth 2016, *Recurrent
    dropout without memory loss*, arXiv:1603.05118) avoids that too, but lies inside the cell's equations and cannot be
    done from around it.

    The mask is drawn by `project` and appended to what the cell projects, so one mask for a sequence is one for each
    call of `project`: a sequence that is run in chunks, or by `Recurrent.step`, gets a new mask with each. In
    evaluation nothing is appended; the mode (`train()`, `eval()`) must be the same for `project` and the steps that
    follow.

    Args:
        cell: what goes inside.
        rate: probability of dropping, at least 0 and below 1.
        parts: which parts of the state, or one name.

    Raises:
        RecipeError: if `rate` is out of range or a part is not one of the state.

    Example:
        >>> from throughtime.cell.lstm import LSTM
        >>> cell = RecurrentDropout(LSTM(3, 5), 0.25)
        >>> cell.project(torch.ones(7, 2, 3)).shape, cell.eval().project(torch.ones(7, 2, 3)).shape
        (torch.Size([7, 2, 25]), torch.Size([7, 2, 20]))
    """

    def __init__(self, cell: Cell, rate: float, *, parts: Sequence[str] = ("h",)) -> None:
        super().__init__(cell, parts)
        if not 0 <= rate < 1:
            raise RecipeError(f"the rate of recurrent dropout must be at least 0 and below 1, not {rate:g}")
        self.rate = rate

    def project(self, x: Tensor) -> Tensor:
        """(T, B, I) -> (T, B, G), in training with one mask of ones (seen) and zeros for all steps: (T, B, G + M)."""
        projected = self.cell.project(x)
        if not self.training:
            return projected
        drawn = torch.rand(1, projected.size(1), self._num_masked(), device=projected.device) >= self.rate
        return self._append(projected, drawn)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: (B, G + M) in training, (B, G) in evaluation, state -> the next state, output."""
        if not self.training:
            return self.cell.step(projected, state)
        projected, masks = self._split(projected)
        seen = list(state)
        for index, mask in zip(self._indices, masks, strict=True):
            seen[index] = state[index] * mask / (1 - self.rate)
        return self.cell.step(projected, tuple(seen))

    def extra_repr(self) -> str:
        """The choices, for `print`."""
        return f"{self.rate:g}, parts={self.parts}"
