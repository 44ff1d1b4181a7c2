"""Two inputs that tell the target together, where neither says anything alone: an exclusive or, a sum modulo 8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.measurement.dependence import commonest
from throughtime.measurement.need_rows import coded_targets, rows_of, time_first

__all__ = ["PairNeed", "need_by_pairs"]

_MOST_FUNCTIONS = 256
"""Of all lags together: so many newest lags are looked at."""
_MOST_OF_ONE = 16
"""Ids with a code of their own, or features, of one input."""
_MOST_ROWS, _FEWEST_ROWS = 1000, 100
_SHIFTS = 40


@dataclass(frozen=True)
class PairNeed:
    """Two lags of the inputs that tell the target together.

    Attributes:
        newer: one of them.
        older: the other: the data needs at least so many steps.
        num_rows: positions that were used.
    """

    newer: int
    older: int
    num_rows: int


def need_by_pairs(
    inputs: Tensor,
    targets: Tensor,
    *,
    time_dim: int | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    seed: int = 0,
) -> PairNeed | None:
    """The pair of lags whose products go with the target by more than those of any pair do by chance, twice over.

    Of ids the products are those of their codes, so that any function of two ids is seen; of numbers those of the
    ranks of the features. The statistic of a pair is the sum of all squared covariances of products and targets, less
    what it is for targets shifted against the inputs, in standard deviations of these. In either half of the sequences
    it has to be larger than that of any pair for any shift.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: one for each sequence, or one for each step, as the inputs lie.
        time_dim: axis of time, 0 or 1.
        lengths: of the sequences, (B,): what stands behind does not count.
        seed: of positions and shifts.

    Returns:
        The pair that tells most, or None where none tells far more than chance.

    Raises:
        InputError: if the shapes do not go together.

    Example:
        >>> ids = torch.randint(4, (30, 100), generator=torch.Generator().manual_seed(0))
        >>> found = need_by_pairs(ids, (ids.roll(2, 0) + ids.roll(5, 0)) % 4, time_dim=0)
        >>> (found.newer, found.older)
        (2, 5)
    """
    generator = torch.Generator().manual_seed(seed)
    x, y, whole = time_first(inputs, targets, time_dim)
    positions, rows, longest = rows_of(x, y, whole, lengths, None, _MOST_ROWS, generator)
    if positions.numel() < _FEWEST_ROWS or longest < 1:
        return None
    target = coded_targets(y[rows] if whole else y[positions, rows]).float()
    coded = _functions(x)
    num = coded.size(-1)
    lags = min(longest + 1, _MOST_FUNCTIONS // num)
    by_lag = torch.cat([coded[positions - lag, rows] for lag in range(lags)], dim=1)
    halves = zip(by_lag.tensor_split(2), target.tensor_split(2), strict=True)
    beyond = torch.stack([_beyond_chance(functions, wanted, num, generator) for functions, wanted in halves]).amin(0)
    best = int(beyond.argmax())
    if not float(beyond.flatten()[best]) > 0:
        return None
    return PairNeed(best // lags, best % lags, len(target))


def _functions(x: Tensor) -> Tensor:
    """(T, B, M): codes of the commonest ids, or the ranks of the first features, from 0 to 1."""
    if not x.is_floating_point():
        return (x.unsqueeze(-1) == commonest(x, _MOST_OF_ONE)).float()
    flat = x[..., :_MOST_OF_ONE].flatten(0, 1)
    ranks = torch.stack([torch.unique(each, return_inverse=True)[1] for each in flat.unbind(1)], 1).float()
    return (ranks / ranks.amax(0).clamp_min(1)).view(*x.shape[:2], -1)


def _beyond_chance(functions: Tensor, target: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """(lags, lags) how far the statistic of each pair, newer and older, lies above the largest by chance."""
    functions, target = functions - functions.mean(0), target - target.mean(0)
    shifts = torch.randint(1, len(target), (_SHIFTS,), generator=generator).tolist()
    chance = torch.stack([_told(functions, target.roll(shift, 0), num) for shift in shifts])
    mean, deviation = chance.mean(0), chance.std(0).clamp_min(1e-12)
    pairs = torch.ones_like(mean).triu(1).bool()
    largest = ((chance - mean) / deviation)[:, pairs].max()
    return ((_told(functions, target, num) - mean) / deviation - largest).masked_fill(~pairs, -torch.inf)


def _told(by_lag: Tensor, target: Tensor, num: int) -> Tensor:
    """(lags, lags) sums of the squared covariances of targets (N, C) with products of functions (N, lags * num)."""
    lags = by_lag.size(1) // num
    found = torch.zeros(lags, lags)
    for each in target.unbind(1):
        covariances = by_lag.t() @ (by_lag * each.unsqueeze(1)) / len(each)
        found += covariances.square().view(lags, num, lags, num).sum((1, 3))
    return found
