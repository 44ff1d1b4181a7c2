"""Dyck words: which bracket closes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.tasks.base import Batch, Task, whole_number

__all__ = ["Dyck"]


@dataclass(frozen=True, kw_only=True)
class Dyck(Task):
    """The beginning of a word of nested brackets: which bracket may close next?

    One or three brackets are open at the end, equally often; each way to nest the others is equally likely, as are
    the K types of each pair. Of one that is open, counting the types of all brackets says which it is; of three, only
    their order does. The first bracket of all is the one to close in about an eighth of the sequences, whatever T, so
    need is T - 1, and a single lag shows it. Where T is even, a blank stands before the word.

    *Reference*: the language is that of Chomsky & Schützenberger 1963; closing brackets are asked for as in Hewitt,
    Hahn, Ganguli, Liang & Manning 2020, arXiv:2010.07515. Departures: there depth is bounded, and every closing bracket
    of a word asked for. Equally likely words by the cycle lemma, Dvoretzky & Motzkin 1947,
    doi:10.1215/S0012-7094-47-01423-3.

    Args:
        length: T.
        num_types: K; type c opens with id c and closes with id K + c, and 2 K is the blank.

    Example:
        >>> batch = Dyck(length=7).batch(1, seed=1)
        >>> "".join("([)]"[int(symbol)] for symbol in batch.inputs[:, 0]), ")]"[int(batch.targets)]
        ('(()())[', ']')
    """

    name: ClassVar[str] = "dyck"
    reference: ClassVar[str] = "Hewitt et al. 2020, arXiv:2010.07515"

    length: int = 101
    num_types: int = 2

    @property
    def num_ids(self) -> int:
        """Opening and closing brackets, and the blank."""
        return 2 * self.num_types + 1

    @property
    def output_size(self) -> int:
        """The types."""
        return self.num_types

    @property
    def need(self) -> int:
        """To the first bracket: T - 1, or one less where a blank stands before it."""
        return self._word_length - 1

    @property
    def _word_length(self) -> int:
        """Odd, as the number of open brackets is."""
        return self.length - 1 + self.length % 2

    def _validate(self) -> None:
        whole_number("length of dyck", self.length, 3)
        whole_number("num_types", self.num_types, 2)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        num_open = 1 + 2 * torch.randint(2, (batch,), generator=generator)
        opens = _beginnings(self._word_length, num_open, generator)
        # Close what is open, in three steps for all: with one open, another pair follows.
        close = torch.zeros(1, batch, dtype=torch.bool)
        pairs = _pairs(torch.cat([opens, close, (num_open == 1).unsqueeze(0), close]))
        types = torch.randint(self.num_types, (pairs.size(0) // 2, batch), generator=generator)
        word = torch.empty_like(pairs)
        word.scatter_(0, pairs[0::2], types)
        word.scatter_(0, pairs[1::2], self.num_types + types)
        blank = torch.full((self.length - self._word_length, batch), 2 * self.num_types)
        return Batch(torch.cat([blank, word[: self._word_length]]), word[self._word_length] - self.num_types)


def _beginnings(num_steps: int, num_open: Tensor, generator: torch.Generator) -> Tensor:
    """(T, B), True where a bracket opens: all beginnings of words that leave so many open are equally likely.

    Of the rotations of a sequence of ups and downs with k more ups, just k stay above their start. Any one of them,
    without its first up, never goes below its start, and ends k - 1 above it.
    """
    size, surplus = num_steps + 1, num_open + 1
    ups = torch.rand(size, num_open.numel(), generator=generator).argsort(dim=0) < (size + surplus) // 2
    heights = torch.where(ups, 1, -1).cumsum(0)
    later = torch.cat([heights[1:], (heights[:1] * 0 + size)]).flip(0).cummin(0).values.flip(0)
    earlier = heights.cummin(0).values + surplus  # the same heights, one time round
    stays_above = (heights < later) & (heights < earlier)
    chosen = torch.where(stays_above, torch.rand(heights.shape, generator=generator), -1.0).argmax(0)
    order = (chosen + 1 + torch.arange(size).unsqueeze(1)) % size
    return ups.gather(0, order)[1:]


def _pairs(opens: Tensor) -> Tensor:
    """(T, B): the step of an opening bracket, that of the one that closes it, and so on for all pairs.

    At one level brackets open and close in turn, so sorting by level and time puts partners side by side.
    """
    steps = torch.arange(opens.size(0)).unsqueeze(1)
    levels = torch.where(opens, 1, -1).cumsum(0) + (~opens).long()
    return (levels * opens.size(0) + steps).argsort(dim=0)
