"""Noisy majority: which of two answers has more votes, among steps that do not vote?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from throughtime.errors import RecipeError
from throughtime.tasks.base import Batch, Task, whole_number

__all__ = ["NoisyMajority"]


@dataclass(frozen=True, kw_only=True)
class NoisyMajority(Task):
    """Which of two ids occurs more often, among steps of a third that is noise.

    An odd number of steps, about the share 1 - `noise` of all, votes for 0 or 1 by a fair coin; the others hold id 2.
    Every vote counts alike, the first step's too, so need is T - 1: inputs up to lag k explain (k + 1) / T of what
    all of them do. Of long sequences a single lag says too little to be seen, and blocks of lags show it.

    *Reference*: majority as in Merrill, Sabharwal & Smith 2022, arXiv:2106.16213. The settings are ours: none are
    common.

    Args:
        length: T.
        noise: the share of steps that do not vote, 0 <= noise < 1.

    Example:
        >>> batch = NoisyMajority(length=6).batch(1, seed=0)
        >>> batch.inputs[:, 0], batch.targets
        (tensor([2, 0, 2, 1, 2, 0]), tensor([0]))
    """

    name: ClassVar[str] = "noisy-majority"
    reference: ClassVar[str] = "Merrill, Sabharwal & Smith 2022, arXiv:2106.16213"

    length: int = 100
    noise: float = 0.5

    @property
    def num_ids(self) -> int:
        """The two answers and noise."""
        return 3

    @property
    def output_size(self) -> int:
        """The two answers."""
        return 2

    @property
    def need(self) -> int:
        """T - 1: every vote counts."""
        return self.length - 1

    def _validate(self) -> None:
        whole_number("length of noisy-majority", self.length, 2)
        if not 0 <= self.noise < 1:
            raise RecipeError(f"noise must be at least 0 and below 1, not {self.noise:g}")

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        voters = max(1, round((1 - self.noise) * self.length))
        voters -= 1 - voters % 2  # odd, so that nothing is ever even
        places = torch.rand(self.length, batch, generator=generator).topk(voters, dim=0).indices
        votes = torch.randint(2, (voters, batch), generator=generator)
        inputs = torch.full((self.length, batch), 2).scatter_(0, places, votes)
        return Batch(inputs, (2 * votes.sum(0) > voters).long())
