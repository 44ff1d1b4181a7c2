"""Forecasting: the next values of a delayed feedback, and of coupled oscillators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.errors import RecipeError
from throughtime.tasks.base import Batch, Chance, Task, whole_number

__all__ = ["CoupledSines", "MackeyGlass"]

_WARM_UP_STEPS = 1000
"""So long it takes until sequences have forgotten where they began, and one another."""
_SHORTEST_DELAY = 17
"""With shorter ones the series repeats itself or comes to rest."""


@dataclass(frozen=True, kw_only=True)
class MackeyGlass(Task):
    """The value `horizon` steps ahead of a series that feeds back on itself after a delay.

        x_(t+1) = x_t + 0.2 x_(t-d) / (1 + x_(t-d)^10) - 0.1 x_t

    in units of its own deviation. The values from lag 0 to lag d are the whole state of the series, so need is d: with
    them everything to come is known, whatever the horizon. Without noise the newer of them already foretell much of
    the older ones, so that in the sense of `throughtime.need`, all but 1 % of what was detected, it can be less.

    *Reference*: Mackey & Glass 1977, doi:10.1126/science.267326; a delay of 17 and a horizon of 84 as in Jaeger &
    Haas 2004, doi:10.1126/science.1091277. Departure: steps of one unit of time by Euler's rule, where finer ones that
    are then left out are common: only so is the next value made of two of those that are given.

    Args:
        length: T, more than the delay.
        delay: d, in steps, at least 17: from about there on the series is chaotic.
        horizon: how many steps ahead.

    Example:
        >>> task = MackeyGlass(length=40)
        >>> batch = task.batch(3, seed=0)
        >>> batch.inputs.shape, batch.targets.shape, task.need
        (torch.Size([40, 3, 1]), torch.Size([3, 1]), 17)
    """

    name: ClassVar[str] = "mackey-glass"
    reference: ClassVar[str] = "Mackey & Glass 1977; Jaeger & Haas 2004, doi:10.1126/science.1091277"
    numbers: ClassVar[bool] = True

    length: int = 100
    delay: int = 17
    horizon: int = 84

    @property
    def input_size(self) -> int:
        """The value."""
        return 1

    @property
    def output_size(self) -> int:
        """The value to come."""
        return 1

    @property
    def need(self) -> int:
        """The delay."""
        return self.delay

    @property
    def chance(self) -> Chance:
        """1, the variance."""
        return Chance(1.0, 0.0)

    def _validate(self) -> None:
        whole_number("delay", self.delay, _SHORTEST_DELAY)
        whole_number("horizon", self.horizon, 1)
        whole_number("length of mackey-glass (more than the delay)", self.length, self.delay + 1)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        mean, deviation = _moments(self.delay)
        series = _series(self.length + self.horizon, self.delay, batch, generator)
        values = ((series - mean) / deviation).float().unsqueeze(2)
        return Batch(values[: self.length], values[-1])


def _series(num_steps: int, delay: int, batch: int, generator: torch.Generator) -> Tensor:
    """(T, B) float64, each sequence from a past of its own."""
    level = 0.4 + torch.rand(batch, generator=generator, dtype=torch.float64)
    past = level + 0.2 * torch.rand(delay + 1, batch, generator=generator, dtype=torch.float64)
    values = list(past)
    for _ in range(_WARM_UP_STEPS + num_steps):
        late = values[-1 - delay]
        values.append(0.9 * values[-1] + 0.2 * late / (1 + late**10))
    return torch.stack(values[-num_steps:])


@lru_cache(maxsize=8)
def _moments(delay: int) -> tuple[float, float]:
    """Mean and standard deviation of the series, from one that is long enough and always the same."""
    series = _series(2000, delay, 256, torch.Generator().manual_seed(0))
    return float(series.mean()), float(series.std())


@dataclass(frozen=True, kw_only=True)
class CoupledSines(Task):
    """The value `horizon` steps ahead of a sum of n sines of known frequencies and random phases.

    That is what one of n coupled oscillators without friction does: each sine is one of their normal modes. Such a
    series follows a linear recurrence of order 2n, x_t = c_1 x_(t-1) + ... + c_2n x_(t-2n), and none of a lower
    order; so need is 2n - 1, whatever the horizon. Where frequencies are low or close to one another, fewer values
    foretell the next ones nearly as well.

    *Reference*: the multiple superimposed oscillators of Schmidhuber, Wierstra, Gagliolo & Gomez 2007,
    doi:10.1162/neco.2007.19.3.757, with frequencies 0.2, 0.311, 0.42, 0.51. Departures:
    random phases, and unit variance.

    Args:
        length: T, at least 2n.
        frequencies: radians a step, between 0 and pi, each different.
        horizon: how many steps ahead.

    Example:
        >>> batch = CoupledSines(length=20).batch(3, seed=0)
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([20, 3, 1]), torch.Size([3, 1]))
    """

    name: ClassVar[str] = "coupled-sines"
    reference: ClassVar[str] = "Schmidhuber et al. 2007, doi:10.1162/neco.2007.19.3.757"
    numbers: ClassVar[bool] = True

    length: int = 100
    frequencies: tuple[float, ...] = (0.2, 0.311)
    horizon: int = 1

    @property
    def input_size(self) -> int:
        """The value."""
        return 1

    @property
    def output_size(self) -> int:
        """The value to come."""
        return 1

    @property
    def need(self) -> int:
        """2n - 1."""
        return 2 * len(self.frequencies) - 1

    @property
    def chance(self) -> Chance:
        """1, the variance."""
        return Chance(1.0, 0.0)

    def _validate(self) -> None:
        known = self.frequencies
        if not known or len(set(known)) < len(known) or not all(0 < frequency < math.pi for frequency in known):
            raise RecipeError(f"frequencies must be different numbers between 0 and pi, not {known}")
        whole_number("horizon", self.horizon, 1)
        whole_number("length of coupled-sines (twice the frequencies)", self.length, 2 * len(known))

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        num_sines = len(self.frequencies)
        phases = 2 * math.pi * torch.rand(num_sines, batch, generator=generator, dtype=torch.float64)
        steps = torch.arange(self.length + self.horizon, dtype=torch.float64)
        angles = torch.tensor(self.frequencies, dtype=torch.float64).view(-1, 1, 1) * steps.view(1, -1, 1)
        series = torch.sin(angles + phases.unsqueeze(1)).sum(0) / (num_sines / 2) ** 0.5
        values = series.float().unsqueeze(2)
        return Batch(values[: self.length], values[-1])
