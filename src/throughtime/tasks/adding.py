"""Adding: the sum of two marked numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from throughtime.tasks.base import Batch, Chance, Task, whole_number

__all__ = ["Adding"]


@dataclass(frozen=True, kw_only=True)
class Adding(Task):
    """The sum of two marked numbers, the first in the first half of the sequence and the other in the second.

    Each step has a number, uniform in [0, 1], and a mark that is 1 at two steps and 0 at all others; the target is the
    sum of the two marked numbers. The first of them may be the first step, so need is T - 1. Where marks stand differs
    from sequence to sequence, so a single lag says little: blocks of lags show it.

    *Reference*: Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735, experiment 4; numbers and target as in
    Le, Jaitly & Hinton 2015, arXiv:1504.00941; one mark in each half as in Arjovsky, Shah & Bengio 2016,
    arXiv:1511.06464. The best constant, 1, has a mean squared error of 1/6; Le et al. give 0.1767 for it.

    Args:
        length: T; Le et al. go from 150 to 400.

    Example:
        >>> batch = Adding(length=6).batch(2, seed=0)
        >>> batch.inputs.shape, batch.targets.shape, batch.inputs[..., 1].sum(0)
        (torch.Size([6, 2, 2]), torch.Size([2, 1]), tensor([2., 2.]))
    """

    name: ClassVar[str] = "adding"
    reference: ClassVar[str] = "Hochreiter & Schmidhuber 1997; Le, Jaitly & Hinton 2015, arXiv:1504.00941"
    numbers: ClassVar[bool] = True

    length: int = 150

    @property
    def input_size(self) -> int:
        """The number and the mark."""
        return 2

    @property
    def output_size(self) -> int:
        """The sum."""
        return 1

    @property
    def need(self) -> int:
        """T - 1: the first step may be marked."""
        return self.length - 1

    @property
    def chance(self) -> Chance:
        """The variance of the sum of two uniform numbers."""
        return Chance(1 / 6, 0.0)

    def _validate(self) -> None:
        whole_number("length of adding (one marked step in each half)", self.length, 2)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        values = torch.rand(self.length, batch, generator=generator)
        half = self.length // 2
        first = torch.randint(half, (batch,), generator=generator)
        second = torch.randint(half, self.length, (batch,), generator=generator)
        columns = torch.arange(batch)
        marks = torch.zeros_like(values)
        marks[first, columns] = marks[second, columns] = 1
        total = values[first, columns] + values[second, columns]
        return Batch(torch.stack([values, marks], -1), total.unsqueeze(1))
