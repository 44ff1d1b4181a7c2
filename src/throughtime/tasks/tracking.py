"""State tracking: what all inputs together come to, of which no single one says anything."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.errors import RecipeError
from throughtime.tasks.base import Batch, Task, whole_number

__all__ = ["Parity", "Permutations"]

_MOST_ITEMS = 6


@dataclass(frozen=True, kw_only=True)
class Parity(Task):
    """Whether the number of ones is odd.

    Need is None: the target hangs on every input alike, and is independent of any T - 1 of them; single lags and sums
    over blocks of lags say nothing, so that no measurement of the data by parts can find how far back it reaches.

    *Reference*: Minsky & Papert 1969, Perceptrons; trained on lengths up to 40 as in Delétang et al. 2023,
    arXiv:2207.02098.

    Args:
        length: T.

    Example:
        >>> batch = Parity(length=5).batch(2, seed=0)
        >>> batch.inputs.sum(0), batch.targets
        (tensor([3, 2]), tensor([1, 0]))
    """

    name: ClassVar[str] = "parity"
    reference: ClassVar[str] = "Minsky & Papert 1969; Delétang et al. 2023, arXiv:2207.02098"

    length: int = 40

    @property
    def num_ids(self) -> int:
        """Zero and one."""
        return 2

    @property
    def output_size(self) -> int:
        """Even and odd."""
        return 2

    @property
    def need(self) -> None:
        """None: no part of the inputs says anything."""
        return

    def _validate(self) -> None:
        whole_number("length of parity", self.length, 2)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        inputs = torch.randint(2, (self.length, batch), generator=generator)
        return Batch(inputs, inputs.sum(0) % 2)


@dataclass(frozen=True, kw_only=True)
class Permutations(Task):
    """At each step, the product of all permutations so far (the word problem of a symmetric group).

    Items are permuted step by step; the state after step t is x_t x_(t-1) ... x_0. The group of 5 items is not
    solvable, which puts the task beyond what a linear recurrence of diagonal matrices can do at any depth that does
    not grow with T.

    Need is None, as for parity (which it is for 2 items): the product is independent of any inputs short of all.

    *Reference*: Merrill, Petty & Sabharwal 2024, arXiv:2404.08819: 5 items, lengths up to 25.

    Args:
        length: T.
        num_items: how many things are permuted, 2 to 6; ids are their permutations in lexicographic order.

    Example:
        >>> batch = Permutations(length=4, num_items=3).batch(1, seed=0)
        >>> batch.inputs[:, 0], batch.targets[:, 0]
        (tensor([1, 0, 3, 0]), tensor([1, 1, 2, 2]))
    """

    name: ClassVar[str] = "permutations"
    reference: ClassVar[str] = "Merrill, Petty & Sabharwal 2024, arXiv:2404.08819"
    per_step: ClassVar[bool] = True

    length: int = 25
    num_items: int = 5

    @property
    def num_ids(self) -> int:
        """The permutations."""
        return _products(self.num_items).size(0)

    @property
    def output_size(self) -> int:
        """The permutations."""
        return self.num_ids

    @property
    def need(self) -> None:
        """None: no part of the inputs says anything."""
        return

    def _validate(self) -> None:
        whole_number("length of permutations", self.length, 2)
        whole_number("num_items", self.num_items, 2)
        if self.num_items > _MOST_ITEMS:
            raise RecipeError(f"num_items must be at most {_MOST_ITEMS} ({720} permutations), not {self.num_items}")

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        table = _products(self.num_items)
        inputs = torch.randint(table.size(0), (self.length, batch), generator=generator)
        states = [inputs[0]]
        for now in inputs[1:]:
            states.append(table[now, states[-1]])
        return Batch(inputs, torch.stack(states))


@lru_cache(maxsize=_MOST_ITEMS)
def _products(num_items: int) -> Tensor:
    """(n!, n!): `table[a, b]` is the permutation that is b first, and then a: item i goes where a puts b[i]."""
    permutations = torch.tensor(list(itertools.permutations(range(num_items))))
    composed = permutations[:, permutations]  # (a, b, item) -> a[b[item]]
    weights = num_items ** torch.arange(num_items - 1, -1, -1)
    codes = (permutations * weights).sum(-1)  # ascending, since the order is lexicographic
    return torch.searchsorted(codes, (composed * weights).sum(-1))
