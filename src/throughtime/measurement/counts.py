"""What an input says about targets of which something is foretold already: counts against what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Contexts", "Foretold", "Information", "alike", "coded", "dense", "paired"]

_FIRST_DRAWS, _MORE_DRAWS = 12, 80
_MOST_CODES = 32
_BUCKETS = 8
_FEWEST_OF_A_CODE = 5
_MOST_CELLS = 1 << 21
"""Of the tables that are counted at once."""
_BLOCKS = 40
_FEWEST_EXPECTED = 1.0
_ROUNDS = 6
"""In which rows are grouped again."""
_SOWINGS = 16
"""In which the groups' first centres are drawn."""
_SPARSE = 4
"""Numbers for each row; where labels are farther apart, these are sorted."""
_SAME = 1e-6
"""Rows whose square roots of shares have a cosine that is so near to 1 are not told apart."""
_ENOUGH_ROWS = 4000
"""To find groups by."""


@dataclass(frozen=True)
class Information:
    """What one thing says about the target beyond what is foretold.

    Attributes:
        nats: as counted, per row.
        chance: what is counted where there is none, by the mean over the draws.
        deviation: of that.
    """

    nats: float
    chance: float
    deviation: float

    @property
    def probability(self) -> float:
        """That chance gives as much, by a gamma distribution with its mean and deviation."""
        if self.nats <= self.chance or self.chance <= 0:
            return 1.0
        shape = (self.chance / self.deviation) ** 2
        scaled = torch.tensor([shape, shape * self.nats / self.chance], dtype=torch.float64)
        return float(torch.special.gammaincc(scaled[0], scaled[1]))

    def detectable(self, level: float) -> float:
        """Nats per row beyond chance that would have been improbable at this level.

        The quantile of the gamma distribution is that of Wilson & Hilferty 1931.
        """
        normal = -float(torch.special.ndtri(torch.tensor(level, dtype=torch.float64)))
        if self.chance <= 0:
            return normal * self.deviation
        relative = self.deviation / self.chance
        return self.chance * ((1 - relative**2 / 9 + normal * relative / 3) ** 3 - 1)

    def inflated(self, factor: float) -> Information:
        """Where chance gives so many times as much."""
        return Information(self.nats, self.chance * factor, self.deviation * factor)


@dataclass(frozen=True)
class Foretold:
    """Targets, and what is foretold of each.

    Attributes:
        targets: (N,) classes from 0 on, rows in the order of sequences and time.
        shares: (N, C) how probable each class is said to be; none is impossible.
        seed: of the draws.
    """

    targets: Tensor
    shares: Tensor
    seed: int

    @cached_property
    def few(self) -> Tensor:
        """(1 + draws, N) the targets; and some that were drawn as was foretold, hence tell nothing beyond it."""
        return torch.cat([self.targets.unsqueeze(0), self._drawn(_FIRST_DRAWS, self.seed)])

    @cached_property
    def more(self) -> Tensor:
        """(draws, N) more that were drawn."""
        return self._drawn(_MORE_DRAWS, self.seed + 1)

    @cached_property
    def logs(self) -> Tensor:
        """Of 1 ... N, at its own place."""
        return torch.arange(len(self.targets) + 1, dtype=torch.float64).clamp(min=1).log()

    def _drawn(self, count: int, seed: int) -> Tensor:
        at = torch.rand(len(self.targets), count, generator=torch.Generator().manual_seed(seed))
        borders = self.shares.cumsum(1).float()
        drawn = torch.searchsorted(borders / borders[:, -1:], at).clamp(max=self.shares.size(1) - 1)
        return drawn.t().contiguous()


@dataclass(frozen=True)
class Contexts:
    """Rows in groups within which an input may say something more.

    Attributes:
        groups: (N,) from 0 on.
        foretold: of the rows.
    """

    groups: Tensor
    foretold: Foretold

    def information(self, codes: Tensor) -> Information:
        """What codes (N,), from 0 on, say about the targets beyond what is foretold and what their group says."""
        return self.judged(self.counted_more(codes, self.counted(codes)))

    def counted(self, codes: Tensor) -> Tensor:
        """(1 + draws,) nats per row: of the targets, and of some that were drawn as was foretold.

        sum over cells of n / N * KL(targets in the cell || what is foretold of them), where a cell is a group and a
        code, less the same where it is a group.
        """
        return (self._divergence(self._cells(codes), self.foretold.few) - self._of_groups) / codes.numel()

    def counted_more(self, codes: Tensor, first: Tensor) -> Tensor:
        """(1 + draws,) what was counted first, and the same of many more that were drawn."""
        more = self._divergence(self._cells(codes), self.foretold.more) - self._more_of_groups
        return torch.cat([first, more / codes.numel()])

    def judged(self, counted: Tensor) -> Information:
        """What `counted` gave, beside what chance gives."""
        chance = counted[1:]
        unsure = 1 + 2 * (2 / chance.numel()) ** 0.5  # of the variance, at two deviations
        least = 0.5 / self.groups.numel()  # half a chi-square of one degree of freedom has 1.4 times as much
        deviation = max(float(chance.std()) * unsure**0.5, least)
        return Information(float(counted[0]), float(chance.mean()), deviation)

    def inflation(self, codes: Tensor) -> float:
        """How many times what it would be in independent rows the variance of counts is; at least 1.

        By that of sums over blocks of rows that follow one another (Liang & Zeger 1986): where input and target both
        change slowly, neighbouring rows err alike.
        """
        cells = self._cells(codes)
        shares, num_rows = self.foretold.shares, len(cells)
        blocks = torch.arange(num_rows) * _BLOCKS // num_rows
        num_cells = int(cells.max()) + 1
        errors = torch.nn.functional.one_hot(self.foretold.targets, shares.size(1)) - shares
        at = blocks * num_cells + cells
        sums = _sums(errors, at, _BLOCKS * num_cells).view(_BLOCKS, num_cells, -1)
        sizes = torch.bincount(at, minlength=_BLOCKS * num_cells).view(_BLOCKS, num_cells, 1)
        own = sizes / sizes.sum(0)
        spread = (sums - own * sums.sum(0)).square().sum(0)
        expected, alone = _sums(shares, cells, num_cells), _sums(shares * (1 - shares), cells, num_cells)
        alone = alone * (1 - own.square().sum(0))  # as many degrees of freedom are left
        kept = (expected >= _FEWEST_EXPECTED) & (alone > 0)
        weight = torch.where(kept, 1 / expected.clamp(min=_FEWEST_EXPECTED), 0.0)
        independent = float((weight * alone).sum())
        return max(1.0, float((weight * spread).sum()) / independent) if independent > 0 else 1.0

    @cached_property
    def _of_groups(self) -> Tensor:
        return self._divergence(dense(self.groups), self.foretold.few)

    @cached_property
    def _more_of_groups(self) -> Tensor:
        return self._divergence(dense(self.groups), self.foretold.more)

    def _cells(self, codes: Tensor) -> Tensor:
        return dense(paired(self.groups, codes)) if bool(self.groups.any()) else codes

    def _divergence(self, cells: Tensor, targets: Tensor) -> Tensor:
        """(D,) sums over rows of log(how often the target is in the row's cell / how often it is expected there)."""
        shares = self.foretold.shares
        num_cells = int(cells.max()) + 1
        expected = _sums(shares, cells, num_cells).flatten().clamp(min=1e-30).log()
        index = cells * shares.size(1) + targets
        at_once = max(1, _MOST_CELLS // expected.numel())
        return torch.cat([self._sum_of_logs(some, expected) for some in torch.split(index, at_once)])

    def _sum_of_logs(self, index: Tensor, expected: Tensor) -> Tensor:
        """For each row of (D, N) cells with their targets."""
        flat = index + expected.numel() * torch.arange(index.size(0)).unsqueeze(1)
        counts = torch.bincount(flat.flatten(), minlength=expected.numel() * index.size(0))
        if counts.numel() > index.numel():  # most are 0
            of_rows: Tensor = (self.foretold.logs[counts[flat]] - expected[index]).sum(1)
            return of_rows
        counts = counts.view(index.size(0), -1)
        of_cells: Tensor = (counts * (self.foretold.logs[counts] - expected)).sum(1)
        return of_cells


def coded(ids: Tensor, most: int = _MOST_CODES) -> Tensor:
    """Ids (N,) as few codes from 0 on: the commonest have one of their own, the others share some, by a hash.

    The hash is the same everywhere, so a rare id that comes again has the same code.
    """
    kinds, places, counts = torch.unique(ids, return_inverse=True, return_counts=True)
    own = most if kinds.numel() <= most else most - _BUCKETS
    ranks = torch.empty_like(counts)
    ranks[counts.argsort(descending=True, stable=True)] = torch.arange(counts.numel())
    has_own = (ranks < own) & (counts >= _FEWEST_OF_A_CODE)
    num_own = int(has_own.sum())
    buckets = max(1, min(_BUCKETS, int(counts[~has_own].sum()) // _FEWEST_OF_A_CODE))
    hashed = ((kinds * 2654435761) >> 12) % buckets
    codes: Tensor = torch.where(has_own, ranks, num_own + hashed)[places]
    return codes


def dense(labels: Tensor) -> Tensor:
    """(N,) the same labels, none below 0, numbered from 0 on."""
    most = int(labels.max()) + 1
    if most > _SPARSE * labels.numel():
        sparse: Tensor = torch.unique(labels, return_inverse=True)[1]
        return sparse
    known = torch.zeros(most, dtype=torch.long)
    known[labels] = 1
    return (known.cumsum(0) - 1)[labels]  # many times as quick as to sort them


def paired(first: Tensor, second: Tensor) -> Tensor:
    """(N,) one number for each pair."""
    return first * (int(second.max()) + 1) + second


def alike(shares: Tensor, most: int, seed: int) -> Tensor:
    """(N,) rows in at most so many groups within which much the same is foretold; from 0 on.

    By k-means on the square roots of the shares (N, C) (Hellinger's distance), from rows that lie far from one another,
    of which several are drawn at once (Bahmani et al. 2012).
    """
    generator = torch.Generator().manual_seed(seed)
    some = shares[torch.randperm(len(shares), generator=generator)[:_ENOUGH_ROWS]]
    points = some.float().sqrt()
    centres = points[:1]
    distance = torch.full((len(points),), torch.inf)
    last = centres
    while len(centres) < most:
        distance = torch.minimum(distance, (1 - (points @ last.t()).amax(1)).clamp(min=0))  # all are on a unit sphere
        far = int((distance > _SAME).sum())
        if far == 0:
            break
        count = min(-(-most // _SOWINGS), most - len(centres), far)
        last = points[torch.multinomial(distance, count, generator=generator)]
        centres = torch.cat([centres, last])
    for _ in range(_ROUNDS):
        nearest = (points @ centres.t()).argmax(1)
        sums = _sums(some, nearest, len(centres)).float()
        total = sums.sum(1, keepdim=True)
        centres = torch.where(total > 0, (sums / total.clamp(min=1e-12)).sqrt(), centres)
    return dense((shares.float().sqrt() @ centres.t()).argmax(1))


def _sums(values: Tensor, places: Tensor, count: int) -> Tensor:
    """(count, C) of values (N, C) at places (N,)."""
    return values.new_zeros(count, values.size(1)).index_add_(0, places, values)
