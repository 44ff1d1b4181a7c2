"""Whether each batch of a loop goes on where the one before it ended, told by how a step follows from those before it.

Within a batch a few steps of a sequence tell something of the next one, in nearly all data. A linear reader of it is
fitted there and then reads on across the seam, from the last steps of a row to the first of the same row in the next
batch: where sequences go on it knows as much as within them, where others begin it knows nothing. Data in which no step
tells anything of the next (white noise) cannot tell.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Link", "Seams"]

_MOST_ROWS, _MOST_STEPS, _MOST_FEATURES = 16, 24, 16
"""Of a batch that are kept: a few thousand steps, all batches together, are enough."""
_MOST_KINDS = 32
"""Of ids: they are looked at one by one. Texts of more words are seen to go on by their targets."""
_MOST_LAGS, _MOST_COLUMNS = 8, 128
"""Of the reader, and what it reads at all these lags together."""
_MOST_PRODUCTS = 64
_ROWS_A_COLUMN = 4
"""Steps to fit, for each number that is fitted."""
_TELLS = 0.1
"""Share of the variance of a number that the steps before it tell, in batches that the reader was not fitted to."""
_VARIES = 0.05
"""Of a number's variance, what it has at the beginning of batches: where it always begins alike it cannot tell."""
_FEWEST_SEAMS = 8
_FEWEST_ROWS = 4
"""Of a batch, to be compared with one another; else all seams are."""


@dataclass(frozen=True)
class Link:
    """How much the end of a row says of where the same row of the next batch begins.

    Attributes:
        share: of what it says within a batch: 1 where all rows go on, 0 where none does.
        error: standard error.
    """

    share: float
    error: float


@dataclass(frozen=True)
class _Piece:
    """The first step of a batch (1, B, F), and its last ones (S, B, F); ids are whole numbers."""

    first: tuple[Tensor, ...]
    last: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Series:
    """The first steps of all batches (N, B, C), and their last ones (N, S, B, C), standardised by these."""

    first: Tensor
    last: Tensor


class Seams:
    """Ends of the batches seen, with time along either of the first two axes."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[_Piece]] = {0: [], 1: []}

    def add(self, x: Tensor, targets: Tensor | None) -> None:
        """One more batch.

        Args:
            x: the inputs, (T, B, ...) or (B, T, ...).
            targets: of the same batch, in any form of a target for each step; others are left out.
        """
        by_step = None if targets is None else _by_step(targets, x)
        given = [x.detach()] if by_step is None else [x.detach(), by_step.detach()]
        for time, pieces in self._pieces.items():
            moved = [_cut(tensor.movedim(time, 0)) for tensor in given]
            pieces.append(_Piece(*(tuple(part[side] for part in moved) for side in (0, 1))))

    def clear(self) -> None:
        """Forget all."""
        self._pieces = {0: [], 1: []}

    def link(self, time: int) -> Link | None:
        """What they tell, with time along this axis; None where they do not."""
        pieces = self._pieces[time]
        if not pieces:
            return None
        usual, _ = Counter(map(_form, pieces)).most_common(1)[0]  # an epoch may end in a smaller batch
        places = [at for at, piece in enumerate(pieces) if _form(piece) == usual]
        adjacent = torch.tensor([after - before == 1 for before, after in pairwise(places)], dtype=torch.bool)
        columns = _columns([pieces[at] for at in places]) if int(adjacent.sum()) >= _FEWEST_SEAMS else None
        return None if columns is None else _link(columns, adjacent)


def _by_step(targets: Tensor, x: Tensor) -> Tensor | None:
    """Targets with the first two axes of x; None where there is not one for each step."""
    one, two = x.shape[:2]
    if tuple(targets.shape[:2]) == (one, two):
        return targets
    if tuple(targets.shape[:2]) == (two, one):
        return targets.transpose(0, 1)
    return targets.reshape(one, two, -1) if targets.dim() and targets.size(0) == one * two else None


def _cut(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first step and the last ones of (T, B, ...), as (..., B, F)."""
    flat = x[:, :_MOST_ROWS].reshape(x.size(0), min(x.size(1), _MOST_ROWS), -1)[..., :_MOST_FEATURES]
    return flat[:1].clone(), flat[-_MOST_STEPS:].clone()


def _form(piece: _Piece) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(part.shape) for part in (*piece.first, *piece.last))


def _columns(pieces: list[_Piece]) -> list[_Series] | None:
    """Inputs, and targets where there are any, as numbers, ids as one for each kind; None where they are not told."""
    found = []
    for at in range(len(pieces[0].first)):
        first = torch.stack([piece.first[at] for piece in pieces])
        last = torch.stack([piece.last[at] for piece in pieces])
        if not first.is_floating_point():
            kinds = torch.unique(torch.cat([first.flatten(), last.flatten()]))
            few = first.size(-1) == 1 and len(kinds) <= _MOST_KINDS
            first, last = (part == kinds if few else part[..., :0] for part in (first, last))
        first, last = first.double(), last.double()
        if not bool(first.isfinite().all()) or not bool(last.isfinite().all()):
            return None
        if last.size(-1):
            centre, spread = last.mean((0, 1, 2)), last.std((0, 1, 2), correction=0)
            first, last = (((part - centre) / spread)[..., spread > 0] for part in (first, last))
        found.append(_Series(first[:, 0], last))
    return found


def _link(series: list[_Series], adjacent: Tensor) -> Link | None:
    """Fit within the batches, and read on from the end of each to the next, if that is the `adjacent` (N - 1,) one."""
    everything = torch.cat([each.last for each in series], -1)
    num_pieces, num_steps, num_rows, num_columns = everything.shape
    lags = min(_MOST_LAGS, num_steps - 1, _MOST_COLUMNS // max(1, num_columns))
    while lags > 1 and num_pieces * (num_steps - lags) * num_rows < 2 * _ROWS_A_COLUMN * lags * num_columns:
        lags -= 1
    if lags < 1 or not num_columns:
        return None
    windows = everything.unfold(1, lags, 1)  # (N, S - lags + 1, B, C, lags)
    x = series[0]
    readers = [_Reader.of(windows[:, :-1], x.last[:, lags:], None)]
    readers += [_Reader.of(windows[:, :-1], y.last[:, lags:], x.last[:, lags:]) for y in series[1:]]
    told, rest = (
        torch.cat(parts, -1).flatten(0, 1) for parts in zip(*(reader.inside for reader in readers), strict=True)
    )
    inside, squares = _products(told, rest).mean(0), _products(told, told).mean(0)
    ends = windows[:-1, -1]
    given = [(x.first[1:], None), *((y.first[1:], x.first[1:]) for y in series[1:])]
    read_on = [reader.read(ends, now, present) for reader, (now, present) in zip(readers, given, strict=True)]
    told, rest = (torch.cat(parts, -1) for parts in zip(*read_on, strict=True))
    variance = torch.cat([reader.variance for reader in readers])
    counts = (2 * inside - squares >= _TELLS * variance) & (_products(rest, rest).mean(0) >= _VARIES * variance)
    if not bool(counts.any()):
        return None
    across = _products(told, rest)[adjacent][:, counts].sum(1) / inside[counts].sum()
    return Link(float(across.mean()), float(across.std()) / math.sqrt(len(across)))


@dataclass(frozen=True)
class _Reader:
    """Reads from the steps before a step what the inputs of that step do not tell of it.

    Attributes:
        by_present: (P, C) weights of the inputs of the step itself; None where the inputs are what is read.
        by_past: (M, C) weights of the steps before, and of their products with the inputs of the step: a walk's next
            place is told by its place and its next step, and by neither alone.
        inside: what is told of the batches that it was not fitted to, and what the inputs of the step left of them.
        variance: (C,) of the latter.
    """

    by_present: Tensor | None
    by_past: Tensor
    inside: tuple[Tensor, Tensor]
    variance: Tensor

    @classmethod
    def of(cls, before: Tensor, now: Tensor, present: Tensor | None) -> _Reader:
        """Fit it to every second batch."""
        by_present = None if present is None else _fitted(present[::2], now[::2])
        rest = now if by_present is None or present is None else now - present @ by_present
        past = _past(before, present)
        by_past = _fitted(past[::2], rest[::2])
        variance = (rest - rest.mean((0, 1, 2))).square().mean((0, 1, 2))
        return cls(by_present, by_past, (past[1::2] @ by_past, rest[1::2]), variance.clamp(min=1e-12))

    def read(self, before: Tensor, now: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `inside`, of other steps."""
        rest = now if self.by_present is None or present is None else now - present @ self.by_present
        return _past(before, present) @ self.by_past, rest


def _past(before: Tensor, present: Tensor | None) -> Tensor:
    """Steps before (..., C, lags) as columns, with the products of the last one and the inputs of the step itself."""
    columns = before.flatten(-2)
    if present is None or before.size(-2) * present.size(-1) > _MOST_PRODUCTS:
        return columns
    return torch.cat([columns, (before[..., -1].unsqueeze(-1) * present.unsqueeze(-2)).flatten(-2)], -1)


def _fitted(x: Tensor, y: Tensor) -> Tensor:
    """(M, C) weights of the ridge regression of y (..., C) on x (..., M), both with a mean of about zero."""
    x, y = x.flatten(0, -2), y.flatten(0, -2)
    gram = x.t() @ x
    gram.diagonal().add_(1e-3 * gram.diagonal().mean() + 1e-12)
    weights: Tensor = torch.linalg.solve(gram, x.t() @ y)
    return weights


def _products(one: Tensor, other: Tensor) -> Tensor:
    """(N, C) mean products of (N, B, C) over the rows; rows are compared with one another where they are enough.

    What all rows have in common, a time of day say, then tells nothing of any.
    """
    if one.size(1) >= _FEWEST_ROWS:
        one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    return (one * other).mean(1)
