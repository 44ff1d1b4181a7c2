"""Zoneout: now and then a unit keeps its old state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from throughtime.cell.base import Cell
from throughtime.cell.wrappers import Wrapper, follow
from throughtime.errors import RecipeError

__all__ = ["Zoneout"]


@final
class Zoneout(Wrapper):
    r"""A cell of which each unit, at each step, keeps its old state with some probability, in training.

        s_t = d_t * s_{t-1} + (1 - d_t) * s~_t,    d_t ~ Bernoulli(rate)          in training
        s_t = rate * s_{t-1} + (1 - rate) * s~_t                                  in evaluation

    for each part s of the state, where s~_t is what the cell computes from the whole old state. A kept unit passes its
    gradient on unchanged, so that the noise does not shorten the memory as dropout does.

    *Reference*: Krueger, Maharaj, Kramár, Pezeshki, Ballas, Ke, Goyal, Bengio, Courville & Pal 2017, *Zoneout:
    Regularizing RNNs by randomly preserving hidden activations*, arXiv:1606.01305. For an LSTM these are its equations
    2 and 3, with a rate for c and one for h. Departures: none.

    The masks are drawn by `project`, for all steps at once, and appended to what the cell projects; in evaluation
    nothing is. So the mode (`train()`, `eval()`) must be the same for `project` and the steps that follow. Where the
    cell's output is a part of its state, so is the wrapper's; an output computed from the state inside the cell stays
    as it was before zoneout.

    Args:
        cell: what goes inside.
        rate: probability of keeping, from 0 to 1, for all parts of the state, or for each part named: the paper's
            choice for words is {"c": 0.5, "h": 0.05}. Around an SLSTM {"h": rate} alone.

    Raises:
        RecipeError: if `rate` is out of range or names what the state does not have.

    Example:
        >>> from throughtime.cell.lstm import LSTM
        >>> cell = Zoneout(LSTM(3, 5), {"c": 0.5, "h": 0.05})
        >>> cell.project(torch.ones(7, 2, 3)).shape, cell.eval().project(torch.ones(7, 2, 3)).shape
        (torch.Size([7, 2, 30]), torch.Size([7, 2, 20]))
    """

    def __init__(self, cell: Cell, rate: float | Mapping[str, float]) -> None:
        super().__init__(cell, tuple(rate) if isinstance(rate, Mapping) else None)
        rates = dict(rate) if isinstance(rate, Mapping) else dict.fromkeys(self.parts, rate)
        for part, value in rates.items():
            if not 0 <= value <= 1:
                raise RecipeError(f"the zoneout rate of {part} must lie between 0 and 1, not at {value:g}")
        self.rates = rates

    def project(self, x: Tensor) -> Tensor:
        """(T, B, I) -> (T, B, G), in training with a mask of ones (keep) and zeros for each step: (T, B, G + M)."""
        projected = self.cell.project(x)
        if not self.training:
            return projected
        rates = [torch.full((shape.numel(),), rate) for shape, rate in zip(self._shapes, self._values(), strict=True)]
        shape = (*projected.shape[:2], self._num_masked())
        drawn = torch.rand(shape, device=projected.device) < torch.cat(rates).to(projected.device)
        return self._append(projected, drawn)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: (B, G + M) in training, (B, G) in evaluation, state -> the next state, output."""
        masks: list[Tensor] = []
        if self.training:
            projected, masks = self._split(projected)
        computed, output = self.cell.step(projected, state)
        after = list(computed)
        for place, (index, rate) in enumerate(zip(self._indices, self._values(), strict=True)):
            old, new = state[index], computed[index]
            after[index] = torch.where(masks[place], old, new) if masks else rate * old + (1 - rate) * new
        return tuple(after), follow(output, computed, after)

    def extra_repr(self) -> str:
        """The rates, for `print`."""
        return ", ".join(f"{part}={rate:g}" for part, rate in self.rates.items())

    def _values(self) -> tuple[float, ...]:
        return tuple(self.rates.values())
