"""Recall at a fixed lag: of the first step, or of n steps back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from throughtime.check import at_least
from throughtime.tasks.base import IGNORED, Batch, Task, whole_number

__all__ = ["DelayedRecall", "NBack"]


@dataclass(frozen=True, kw_only=True)
class DelayedRecall(Task):
    """The class is told at the first step, and asked for at the last; all between is noise.

    Need is T - 1, at a single lag: the plainest task that a gradient which vanishes makes impossible.

    *Reference*: after the latching problem of Bengio, Simard & Frasconi 1994, doi:10.1109/72.279181. Departures: the
    class is told by a one-hot code at one step, where theirs is learned over several; the noise, of the same
    deviation 0.2, is in all features.

    Args:
        length: T.
        num_classes: C.
        noise: standard deviation of the features after the first step.

    Example:
        >>> batch = DelayedRecall(length=5, noise=0.0).batch(3, seed=0)
        >>> batch.inputs[0].argmax(1), batch.targets
        (tensor([1, 0, 1]), tensor([1, 0, 1]))
    """

    name: ClassVar[str] = "delayed-recall"
    reference: ClassVar[str] = "Bengio, Simard & Frasconi 1994, doi:10.1109/72.279181"

    length: int = 100
    num_classes: int = 2
    noise: float = 0.2

    @property
    def input_size(self) -> int:
        """One feature for each class."""
        return self.num_classes

    @property
    def output_size(self) -> int:
        """The classes."""
        return self.num_classes

    @property
    def need(self) -> int:
        """T - 1: the first step alone tells."""
        return self.length - 1

    def _validate(self) -> None:
        whole_number("length of delayed-recall", self.length, 2)
        whole_number("num_classes", self.num_classes, 2)
        at_least("noise", self.noise, 0)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        classes = torch.randint(self.num_classes, (batch,), generator=generator)
        inputs = self.noise * torch.randn(self.length, batch, self.num_classes, generator=generator)
        inputs[0] = F.one_hot(classes, self.num_classes)
        return Batch(inputs, classes)


@dataclass(frozen=True, kw_only=True)
class NBack(Task):
    """At each step, the symbol of `lag` steps before.

    Need is the lag, whatever the length. Symbols are independent and equally frequent, so that nothing else tells.

    *Reference*: Kirchner 1958, doi:10.1037/h0043688. Departure: people are asked whether the symbols now and n steps
    before are the same; here the symbol itself is asked for, as in Jaeger 2001 (short-term memory in echo state
    networks, GMD report 152), since no single input says anything about a comparison of two.

    Args:
        length: T.
        lag: n.
        num_symbols: S.

    Example:
        >>> batch = NBack(length=6, lag=2).batch(1, seed=0)
        >>> batch.inputs[:, 0], batch.targets[:, 0]
        (tensor([3, 4, 7, 6, 3, 2]), tensor([-100, -100,    3,    4,    7,    6]))
    """

    name: ClassVar[str] = "n-back"
    reference: ClassVar[str] = "Kirchner 1958, doi:10.1037/h0043688"
    per_step: ClassVar[bool] = True

    length: int = 100
    lag: int = 3
    num_symbols: int = 8

    @property
    def num_ids(self) -> int:
        """The symbols."""
        return self.num_symbols

    @property
    def output_size(self) -> int:
        """The symbols."""
        return self.num_symbols

    @property
    def need(self) -> int:
        """The lag."""
        return self.lag

    def _validate(self) -> None:
        whole_number("lag", self.lag, 1)
        whole_number("num_symbols", self.num_symbols, 2)
        whole_number("length of n-back (more than the lag)", self.length, self.lag + 1)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        inputs = torch.randint(self.num_symbols, (self.length, batch), generator=generator)
        targets = torch.full_like(inputs, IGNORED)
        targets[self.lag :] = inputs[: self.length - self.lag]
        return Batch(inputs, targets)
