"""How far back inputs are needed to tell targets, by ridge regression; ids have indicators for numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.measurement.dependence import features, held_out_errors, selected_lags
from throughtime.measurement.need_told import SHARE, Told, need_of

__all__ = ["nearly_all", "told_by_variance"]

_ALL_BUT = 0.05
"""Share of the variance that is not explained; where more is left, older inputs may hold something of their own."""


def told_by_variance(
    x: Tensor, positions: Tensor, rows: Tensor, longest: int, target: Tensor, generator: torch.Generator, seed: int
) -> Told:
    """Which lags explain something of the target's variance beyond one another, and how much on held-out rows.

    Lags are chosen one after another, each for what it says beyond those chosen before. Where all but a few per cent
    are explained, it is looked whether newer lags alone say as much: of a sine, its last two values say all, though the
    one half a period ago says most by itself.

    Args:
        x: (T, B, I) numbers or (T, B) ids.
        positions: (N,) steps that count.
        rows: (N,) their sequences.
        longest: the longest lag.
        target: (N, C).
        generator: of features and shifts.
        seed: of shifts, where newer lags are tried.
    """
    by_lag = _by_lag(x, positions, rows, longest, generator)
    selected = selected_lags(by_lag, target, generator)
    ordered = tuple(sorted(selected.lags))
    errors = held_out_errors(by_lag, ordered, target)
    if ordered:
        ordered, errors = _by_newer(by_lag, target, ordered, errors, seed)
    return Told(ordered, errors, selected.detectable, selected.left_over)


def _by_lag(x: Tensor, positions: Tensor, rows: Tensor, longest: int, generator: torch.Generator) -> Tensor:
    """(K, N, M) functions of the input at each lag; ids that are common at that lag have codes of their own."""
    if x.is_floating_point():
        coded = features(x, generator)
        return torch.stack([coded[positions - lag, rows] for lag in range(longest + 1)])
    each = [features(x[positions - lag, rows], generator) for lag in range(longest + 1)]
    widest = max(codes.size(1) for codes in each)
    return torch.stack([torch.nn.functional.pad(codes, (0, widest - codes.size(1))) for codes in each])


def _by_newer(
    by_lag: Tensor, target: Tensor, lags: tuple[int, ...], errors: Tensor, seed: int
) -> tuple[tuple[int, ...], Tensor]:
    """The lags and their errors; or, where lags that are all newer than the need say as much, as few as do.

    Only where next to nothing is left to explain: else each lag also averages noise away, and does so for good.
    """
    total = errors.sum(1)
    steps = need_of(total, lags)
    if not steps or not nearly_all(1 - float(total.min() / total[0])):
        return lags, errors
    enough = total[0] - SHARE * (total[0] - total.min())
    best, few, many = (lags, errors), 0, steps + 1  # how many of the newest lags: too few, and enough
    count = steps
    while many - few > 1:
        newer = tuple(sorted(selected_lags(by_lag[:count], target, torch.Generator().manual_seed(seed)).lags))
        found = held_out_errors(by_lag, newer, target)
        reached = (found.sum(1) <= enough).nonzero()
        if reached.numel():
            best, many = (newer, found), newer[int(reached[0]) - 1] + 1
        elif count == steps:
            break  # what the oldest one says, no newer ones do
        else:
            few = count
        count = (few + many) // 2
    return best


def nearly_all(explained: float) -> bool:
    """Whether a share of a target's variance leaves so little that older inputs have hardly anything to add."""
    return explained >= 1 - _ALL_BUT
