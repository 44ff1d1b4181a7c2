"""Conditional mutual information from counts, and what chance gives: targets turned round within like contexts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Contexts", "Information", "coded", "dense", "merged", "paired"]

_ROTATIONS, _FIRST_ROTATIONS = 240, 20
_IN_DOUBT = 1e-12, 0.05
"""What is more or less probable than that by the first of the rotations is not compared with the others."""
_MOST_CODES = 32
_BUCKETS = 8
_FEWEST_OF_A_CODE = 5
_FEW = 16
_SHARE_TOO_NEAR = 8
_MOST_CELLS = 1 << 21
"""Of the tables that are counted at once."""

_MERGES = 8
"""Rounds in which contexts are regrouped."""


@dataclass(frozen=True)
class Information:
    """What one thing says about the target where the context is known.

    Attributes:
        nats: I(target; thing | context) as counted, per row.
        chance: what is counted where there is none, by the mean over the rotations.
        deviation: of that.
        left: H(target | context) as counted.
    """

    nats: float
    chance: float
    deviation: float
    left: float

    @property
    def adjusted(self) -> float:
        """Without what chance gives: 0 where there is nothing, all that is left where the target is told.

        (I - chance) / (left - chance) * left, the adjusted mutual information of Vinh, Epps & Bailey 2010 in nats;
        where chance alone would tell more than half, without the denominator.
        """
        scale = self.left / (self.left - self.chance) if self.chance < self.left / 2 else 1.0
        return (self.nats - self.chance) * scale

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


@dataclass(frozen=True)
class Contexts:
    """Rows in groups that are alike in what is known, and their targets.

    Attributes:
        groups: (N,) from 0 on.
        targets: (N,) classes from 0 on.
        seed: of the rotations.
    """

    groups: Tensor
    targets: Tensor
    seed: int

    def information(self, codes: Tensor) -> Information:
        """What codes (N,), from 0 on, say about the targets beyond the groups."""
        return self.judged(self.counted(codes))

    def counted(self, codes: Tensor) -> Tensor:
        """(1 + rotations,) I(target; code | group) in nats per row: as it is, and for each of the rotations.

        Of what is like chance, or far from it, there are fewer rotations.
        """
        first = self._counted(codes, slice(0, _FIRST_ROTATIONS + 1))
        least, most = _IN_DOUBT
        if not least < self.judged(first).probability < most:
            return first
        return torch.cat([first, self._counted(codes, slice(_FIRST_ROTATIONS + 1, None))])

    def judged(self, counted: Tensor) -> Information:
        """What `counted` gave, beside what chance gives."""
        chance = counted[1:]
        unsure = 1 + 2 * math.sqrt(2 / chance.numel())  # of the variance, at two deviations
        least = 1 / self.groups.numel()  # a chi-square of one degree of freedom has 1.4 times as much
        deviation = max(float(chance.std()) * math.sqrt(unsure), least)
        return Information(float(counted[0]), float(chance.mean()), deviation, self.left)

    def _counted(self, codes: Tensor, which: slice) -> Tensor:
        """For some of the rotations, of which the first is none."""
        num_cells = (int(codes.max()) + 1) * self._num_pairs
        fixed = self._of_groups - self._of_pairs - _logs(paired(codes, self.groups))
        index = codes[self._order] * self._num_pairs + self._turned[which]
        sums = [self._sums(some, num_cells) for some in torch.split(index, max(1, _MOST_CELLS // num_cells))]
        counted: Tensor = (torch.cat(sums) + fixed) / self.groups.numel()
        return counted

    def _sums(self, index: Tensor, num_cells: int) -> Tensor:
        """For each row of (D, N) cells the sum over its entries of the logarithm of how often their cell occurs."""
        flat = index + num_cells * torch.arange(index.size(0)).unsqueeze(1)
        counts = torch.bincount(flat.flatten(), minlength=num_cells * index.size(0))
        found: Tensor = self._log[counts[flat]].sum(1)
        return found

    def local(self, codes: Tensor) -> Tensor:
        """(N,) whose mean is the information as counted: log p(target | code, group) / p(target | group)."""
        pairs = paired(self.groups, self.targets)
        joint = paired(codes, pairs)
        found: Tensor = (
            _log_counts(joint) + _log_counts(self.groups) - _log_counts(pairs) - _log_counts(paired(codes, self.groups))
        )
        return found

    @cached_property
    def left(self) -> float:
        """H(target | group), as counted."""
        return (self._of_groups - self._of_pairs) / self.groups.numel()

    @cached_property
    def _log(self) -> Tensor:
        """Of 1 ... N, at its own place."""
        return torch.arange(self.groups.numel() + 1, dtype=torch.float64).clamp(min=1).log()

    @cached_property
    def _order(self) -> Tensor:
        return self.groups.argsort(stable=True)

    @cached_property
    def _num_pairs(self) -> int:
        return int(self._turned.max()) + 1

    @cached_property
    def _of_groups(self) -> float:
        return _logs(self.groups)

    @cached_property
    def _of_pairs(self) -> float:
        return _logs(paired(self.groups, self.targets))

    @cached_property
    def _turned(self) -> Tensor:
        """(1 + rotations, N), group by group: which pair of group and target stands there; first as it is.

        A rotation keeps how often each target occurs in a group, and most of what neighbouring targets have to do with
        one another.
        """
        groups, targets = self.groups[self._order], self.targets[self._order]
        sizes = torch.bincount(groups)
        starts = (sizes.cumsum(0) - sizes)[groups]
        sizes = sizes[groups]
        generator = torch.Generator().manual_seed(self.seed)
        by = torch.rand(_ROTATIONS, int(groups.max()) + 1, generator=generator, dtype=torch.float64)[:, groups]
        near = torch.where(sizes < _FEW, 0, sizes // _SHARE_TOO_NEAR)  # a small turn leaves much as it is
        by = near + (by * (sizes - 2 * near)).long()
        by = torch.cat([torch.zeros_like(by[:1]), by])
        within = torch.arange(groups.numel()) - starts + by
        pairs = dense(paired(groups, targets))
        turned: Tensor = pairs[starts + within % sizes]
        return turned


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
    """(N,) the same labels, numbered from 0 on."""
    places: Tensor = torch.unique(labels, return_inverse=True)[1]
    return places


def paired(first: Tensor, second: Tensor) -> Tensor:
    """(N,) one number for each pair."""
    return first * (int(second.max()) + 1) + second


def merged(groups: Tensor, targets: Tensor, most: int) -> Tensor:
    """At most so many groups: those that foretell alike become one; from 0 on.

    By k-means on the square roots of the shares of the targets in each group (Hellinger's distance), from the groups
    that lie farthest apart, weighted by how many rows they have.
    """
    groups = dense(groups)
    num_groups, num_classes = int(groups.max()) + 1, int(targets.max()) + 1
    if num_groups <= most:
        return groups
    counts = torch.bincount(groups * num_classes + targets, minlength=num_groups * num_classes)
    table = counts.view(num_groups, num_classes).double()
    weights = table.sum(1)
    points = ((table + table.sum(0) / table.sum()) / (weights + 1).unsqueeze(1)).sqrt()
    centres = _far_apart(points, weights, most)
    for _ in range(_MERGES):
        nearest = (points @ centres.t()).argmax(1)  # both lie on the unit sphere, or within it
        sums = torch.zeros_like(centres).index_add(0, nearest, weights.unsqueeze(1) * points.square())
        means = sums / sums.sum(1, keepdim=True).clamp(min=1e-12)
        centres = torch.where(sums.sum(1, keepdim=True) > 0, means.sqrt(), centres)
    return dense(nearest[groups])


def _far_apart(points: Tensor, weights: Tensor, count: int) -> Tensor:
    """(count, C) of points (M, C): the heaviest, then one after another whatever is farthest from those before."""
    chosen = [int(weights.argmax())]
    distance = torch.full_like(weights, torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int((distance * weights).argmax()))
    return points[chosen]


def _log_counts(labels: Tensor) -> Tensor:
    """(N,) the logarithm of how often the label of each row occurs."""
    _, places, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    logs: Tensor = counts.double().log()[places]
    return logs


def _logs(labels: Tensor) -> float:
    return float(_log_counts(labels).sum())
