"""Shares of seeds that learn, and whether one is larger than another, by exact tests: seeds are few."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["holm", "paired_difference", "paired_p", "sign_p", "wilson"]

_Z = 1.959963984540054
"""The normal quantile of two-sided 95 % intervals."""


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    *Reference*: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Args:
        hits: of `total`.
        total: 0 gives the whole range.

    Example:
        >>> [round(bound, 3) for bound in wilson(5, 5)]
        [0.566, 1.0]
    """
    if total == 0:
        return 0.0, 1.0
    share, square = hits / total, _Z * _Z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_p(better: int, worse: int) -> float:
    """The one-sided sign test: how likely so many pairs, or more, are better where both directions are equally likely.

    Args:
        better: pairs in which the treated one is better.
        worse: pairs in which it is worse; ties are left out.

    Example:
        >>> sign_p(10, 0), sign_p(0, 0)
        (0.0009765625, 1.0)
    """
    pairs = better + worse
    return math.fsum(math.comb(pairs, count) / 2**pairs for count in range(better, pairs + 1))


def paired_p(treated: Sequence[bool], untreated: Sequence[bool]) -> float:
    """The exact one-sided test of McNemar: the sign test over the seeds on which the two differ.

    *Reference*: McNemar 1947, doi:10.1007/BF02295996.

    Args:
        treated: for each seed, whether it learned.
        untreated: on the same seeds.

    Example:
        >>> paired_p([True] * 8 + [False] * 2, [False] * 10)
        0.00390625
    """
    pairs = list(zip(treated, untreated, strict=True))
    return sign_p(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, in the order given.

    *Reference*: Holm 1979, https://www.jstor.org/stable/4615733.

    Example:
        >>> [round(p, 6) for p in holm([0.03, 0.001, 0.4])]
        [0.06, 0.003, 0.4]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, float, float]:
    """The difference of two shares of the same cases, with its 95 % interval.

    *Reference*: Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, method 10.

    Args:
        first: for each case.
        second: for the same cases.

    Returns:
        The share of `first` minus that of `second`, the lower and the upper bound.

    Example:
        >>> [round(value, 3) for value in paired_difference([True] * 9 + [False], [True] * 5 + [False] * 5)]
        [0.4, -0.002, 0.676]
    """
    total = len(first)
    if total == 0:
        return 0.0, -1.0, 1.0
    pairs = list(zip(first, second, strict=True))
    both, neither = sum(a and b for a, b in pairs), sum(not a and not b for a, b in pairs)
    only_first, only_second = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    share_1, share_2 = (both + only_first) / total, (both + only_second) / total
    low_1, high_1 = wilson(both + only_first, total)
    low_2, high_2 = wilson(both + only_second, total)
    margins = (both + only_first) * (both + only_second) * (only_second + neither) * (only_first + neither)
    crossed = float(both * neither - only_first * only_second)
    if crossed > 0:  # the correction for continuity, in one direction only
        crossed = max(crossed - total / 2, 0.0)
    correlation = crossed / math.sqrt(margins) if margins else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = share_1 - share_2
    below = reach(share_1 - low_1, high_2 - share_2)
    above = reach(high_1 - share_1, share_2 - low_2)
    return difference, difference - below, difference + above
