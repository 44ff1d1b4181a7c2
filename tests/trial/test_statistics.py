"""Against numbers that can be had by hand, or from the papers."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest

from throughtime.trial.statistics import holm, paired_difference, paired_p, sign_p, wilson


def test_wilson_of_the_textbook() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("better", range(7))
def test_the_sign_test_counts_all_ways_to_fall(better: int) -> None:
    ways = [sum(falls) >= better for falls in product((0, 1), repeat=6)]
    assert sign_p(better, 6 - better) == pytest.approx(sum(ways) / 64)


def test_only_seeds_that_differ_count() -> None:
    treated = [True, True, True, True, False, True]
    untreated = [True, False, False, False, True, True]
    assert paired_p(treated, untreated) == pytest.approx((comb(4, 3) + 1) / 16)
    assert paired_p([True] * 10, [True] * 10) == 1.0


def test_holm_corrects_for_the_number_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_the_difference_of_paired_shares_as_published() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, table II, method 10:
    # 36 both, 12 only the first, 2 only the second, 0 neither
    first = [True] * 48 + [False] * 2
    second = [True] * 36 + [False] * 12 + [True] * 2
    difference, low, high = paired_difference(first, second)
    assert difference == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_the_interval_of_equal_shares_holds_zero() -> None:
    difference, low, high = paired_difference([True, False] * 10, [False, True] * 10)
    assert difference == 0
    assert low < 0 < high
