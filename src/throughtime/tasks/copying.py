"""Copying: symbols that are to be told again after a long pause, at fixed places or scattered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from throughtime.tasks.base import IGNORED, Batch, Task, whole_number

__all__ = ["Copying", "SelectiveCopying"]


@dataclass(frozen=True, kw_only=True)
class _ToldAgain(Task):
    """K symbols out of S among blanks, told again at the last K steps, after a sign."""

    per_step: ClassVar[bool] = True

    num_symbols: int
    num_copied: int

    @property
    def num_ids(self) -> int:
        """The symbols, the blank and the sign."""
        return self.num_symbols + 2

    @property
    def output_size(self) -> int:
        """The symbols."""
        return self.num_symbols

    @property
    def need(self) -> int:
        """T - K: from the first symbol, which may stand at the first step, to its answer."""
        return self.length - self.num_copied


@dataclass(frozen=True, kw_only=True)
class Copying(_ToldAgain):
    """The first K symbols are to be told again at the last K steps, after a sign to begin.

    K symbols out of S, T - 2K - 1 blanks, the sign, K blanks; asked are the last K steps. Each answer stands T - K
    steps after its symbol, so need is T - K.

    *Reference*: Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; the settings are those of Arjovsky,
    Shah & Bengio 2016, arXiv:1511.06464: K = 10, S = 8, and T = lag + 20 for a lag of 100, 200, 300 or 500.
    Departure: they ask for a blank at the other steps too, which says nothing about memory; their loss, the mean over
    all steps, is at chance K log(S) / T where it is log(S) here.

    Args:
        length: T, the pause and twice K.
        num_symbols: S.
        num_copied: K.

    Example:
        >>> batch = Copying(length=7, num_copied=2).batch(1, seed=0)
        >>> batch.inputs[:, 0], batch.targets[:, 0]
        (tensor([3, 4, 8, 8, 9, 8, 8]), tensor([-100, -100, -100, -100, -100,    3,    4]))
    """

    name: ClassVar[str] = "copying"
    reference: ClassVar[str] = "Arjovsky, Shah & Bengio 2016, arXiv:1511.06464"

    length: int = 120
    num_symbols: int = 8
    num_copied: int = 10

    def _validate(self) -> None:
        whole_number("num_symbols", self.num_symbols, 2)
        whole_number("num_copied", self.num_copied, 1)
        whole_number("length of copying (twice num_copied, and the sign)", self.length, 2 * self.num_copied + 1)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        count, blank, sign = self.num_copied, self.num_symbols, self.num_symbols + 1
        symbols = torch.randint(self.num_symbols, (count, batch), generator=generator)
        inputs = torch.full((self.length, batch), blank)
        inputs[:count] = symbols
        inputs[-count - 1] = sign
        targets = torch.full_like(inputs, IGNORED)
        targets[-count:] = symbols
        return Batch(inputs, targets)


@dataclass(frozen=True, kw_only=True)
class SelectiveCopying(_ToldAgain):
    """K symbols scattered among blanks are to be told again, in their order, at the last K steps.

    The first T - K steps hold K symbols out of S at places that differ from sequence to sequence, and blanks; the
    last K steps hold the sign to answer. The first symbol may stand at the first step, T - K steps before its answer.

    *Reference*: Gu & Dao 2023, arXiv:2312.00752, section 4.1.1 and appendix E.1: T = 4096, K = 16, 16 ids. They leave
    open whether the answers are among the 4096 steps, and the blank and the sign among the 16 ids; here they are.

    Args:
        length: T.
        num_symbols: S.
        num_copied: K.

    Example:
        >>> batch = SelectiveCopying(length=8, num_copied=2).batch(1, seed=1)
        >>> batch.inputs[:, 0], batch.targets[-2:, 0]
        (tensor([14,  0,  2, 14, 14, 14, 15, 15]), tensor([0, 2]))
    """

    name: ClassVar[str] = "selective-copying"
    reference: ClassVar[str] = "Gu & Dao 2023, arXiv:2312.00752"

    length: int = 4096
    num_symbols: int = 14
    num_copied: int = 16

    def _validate(self) -> None:
        whole_number("num_symbols", self.num_symbols, 2)
        whole_number("num_copied", self.num_copied, 1)
        whole_number("length of selective-copying (twice num_copied)", self.length, 2 * self.num_copied)

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        count, context = self.num_copied, self.length - self.num_copied
        symbols = torch.randint(self.num_symbols, (count, batch), generator=generator)
        places = torch.rand(context, batch, generator=generator).topk(count, dim=0).indices.sort(dim=0).values
        inputs = torch.full((self.length, batch), self.num_symbols)
        inputs.scatter_(0, places, symbols)
        inputs[context:] = self.num_symbols + 1
        targets = torch.full_like(inputs, IGNORED)
        targets[context:] = symbols
        return Batch(inputs, targets)
