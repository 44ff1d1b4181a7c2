"""Associative recall: which value stood beside this key?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from throughtime.errors import RecipeError
from throughtime.tasks.base import IGNORED, Batch, Task, whole_number

__all__ = ["AssociativeRecall"]


@dataclass(frozen=True, kw_only=True)
class AssociativeRecall(Task):
    """K pairs of key and value, then the keys once more, scattered: at each, its value is asked for (MQAR).

    The first 2K steps hold key, value, key, value, ...; of the steps behind them every other one, from the first, may
    hold a query, nearer ones more often (how often an interval g occurs goes with g^(a-1), a = 0.01); what is no
    query is a random id. Keys and values come from the two halves of the ids, and those of a sequence differ.

    The oldest value stands at step 1 and the last query at step T - 2 (of an even T), so need is T - 3. The key beside
    that value is a step older and not needed: if no other key is the one asked for, it is that one.

    *Reference*: Arora, Eyuboglu, Timalsina et al. 2023, arXiv:2312.04927: V = 8192, and T = 64 with 4 pairs, 128 with
    8, 256 with 16, 512 with 64. Departure: the answer is one of the V / 2 values and not any of the V ids.

    Args:
        length: T, at least four times the number of pairs.
        num_pairs: K.
        vocabulary_size: V, even.

    Example:
        >>> batch = AssociativeRecall(length=8, num_pairs=2, vocabulary_size=20).batch(1, seed=0)
        >>> batch.inputs[:, 0]  # values are 10 and more
        tensor([ 7, 11,  6, 18,  7, 11,  6, 12])
        >>> batch.targets[:, 0]  # counted from the first value
        tensor([-100, -100, -100, -100,    1, -100,    8, -100])
    """

    name: ClassVar[str] = "associative-recall"
    reference: ClassVar[str] = "Arora et al. 2023, arXiv:2312.04927"
    per_step: ClassVar[bool] = True
    power: ClassVar[float] = 0.01

    length: int = 64
    num_pairs: int = 4
    vocabulary_size: int = 8192

    @property
    def num_ids(self) -> int:
        """V."""
        return self.vocabulary_size

    @property
    def output_size(self) -> int:
        """The values, V / 2."""
        return self.vocabulary_size // 2

    @property
    def need(self) -> int:
        """From the first value to the last place of a query."""
        return 2 * (self.num_pairs + self._num_places) - 3

    @property
    def _num_places(self) -> int:
        """Steps that may hold a query."""
        return (self.length - 2 * self.num_pairs) // 2

    def _validate(self) -> None:
        whole_number("num_pairs", self.num_pairs, 1)
        whole_number("length of associative-recall (four times num_pairs)", self.length, 4 * self.num_pairs)
        # Key 0 is not used, as in the authors' program.
        whole_number("vocabulary_size (twice num_pairs, and two)", self.vocabulary_size, 2 * (self.num_pairs + 1))
        if self.vocabulary_size % 2:
            raise RecipeError(f"vocabulary_size must be even, not {self.vocabulary_size}")

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        half, pairs = self.vocabulary_size // 2, self.num_pairs
        keys = 1 + torch.rand(half - 1, batch, generator=generator).topk(pairs, dim=0).indices
        values = torch.rand(half, batch, generator=generator).topk(pairs, dim=0).indices
        # The largest of log p + Gumbel noise are a sample without replacement, in the order of drawing.
        gaps = torch.arange(1, self._num_places + 1, dtype=torch.float64)
        uniform = torch.rand(self._num_places, batch, generator=generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
        places = ((self.power - 1) * gaps.log().unsqueeze(1) + noise).topk(pairs, dim=0).indices
        queries = 2 * pairs + 2 * places
        inputs = torch.randint(self.vocabulary_size, (self.length, batch), generator=generator)
        inputs[0 : 2 * pairs : 2] = keys
        inputs[1 : 2 * pairs : 2] = half + values
        inputs.scatter_(0, queries, keys)
        targets = torch.full_like(inputs, IGNORED).scatter_(0, queries, values)
        return Batch(inputs, targets)
