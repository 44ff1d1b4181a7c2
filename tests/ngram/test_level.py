import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from throughtime.ngram.level import FALLBACK_DISCOUNTS, discounts


def counts_of(n1, n2, n3, n4):
    return np.repeat([1, 2, 3, 4], [n1, n2, n3, n4])


def test_discounts_by_hand():
    """n = 10, 5, 2, 1: Y = 10/20 = 1/2; D1 = 1 - 2/2 * 5/10, D2 = 2 - 3/2 * 2/5, D3+ = 3 - 4/2 * 1/2."""
    assert discounts(counts_of(10, 5, 2, 1)) == pytest.approx((0.5, 1.4, 2.0))


@pytest.mark.parametrize("n", [(0, 5, 2, 1), (10, 0, 2, 1), (10, 5, 0, 1), (0, 0, 0, 0)])
def test_without_counts_of_counts_they_fall_back(n):
    assert discounts(counts_of(*n)) == FALLBACK_DISCOUNTS


@pytest.mark.parametrize("n", [(10, 2, 9, 1), (10, 5, 2, 50)])  # D2, D3+ below zero
def test_below_zero_they_fall_back(n):
    assert discounts(counts_of(*n)) == FALLBACK_DISCOUNTS


def test_without_a_count_of_four_they_stand():
    assert discounts(counts_of(10, 5, 2, 0)) == pytest.approx((0.5, 1.4, 3.0))


@settings(deadline=None)
@given(arrays.arrays(np.uint16, st.integers(0, 40), elements=st.integers(0, 6)))
def test_no_count_grows_or_goes_below_zero(counts):
    d1, d2, d3 = discounts(counts)
    assert 0 < d1 <= 1
    assert 0 <= d2 <= 2
    assert 0 <= d3 <= 3


def test_a_discount_of_zero_would_leave_nothing_for_unseen_words():
    counts = counts_of(6, 3, 4, 0)  # Y = 1/2, so D2 = 2 - 3/2 * 4/3 = 0
    assert discounts(counts) == FALLBACK_DISCOUNTS
