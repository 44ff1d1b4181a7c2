"""Norms of many tensors at once against float64, one by one."""

from __future__ import annotations

import math

import pytest
import torch

from throughtime.measurement.watch_norms import norms

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtypes", [*((dtype,) for dtype in DTYPES), DTYPES], ids=str)
def test_any_dtypes(dtypes):
    tensors = [torch.randn(17, 5).to(dtype) for dtype in dtypes for _ in range(3)]
    expected = [float(tensor.double().norm()) for tensor in tensors]
    assert norms(tensors) == pytest.approx(expected, rel=1e-6)


def test_squares_beyond_the_range_of_a_dtype():
    tensors = [
        torch.full((4,), 6e4, dtype=torch.float16),
        torch.full((4,), 1e-40),
        torch.full((4,), 1e200, dtype=torch.float64),
    ]
    assert norms(tensors) == pytest.approx([1.2e5, 2e-40, 2e200], rel=1e-3)


def test_only_what_holds_it_is_zero_or_not_finite():
    tensors = [torch.zeros(3), torch.tensor([1.0, math.nan]), torch.tensor([-math.inf]), torch.zeros(0), torch.ones(1)]
    found = norms(tensors)
    assert found[0] == found[3] == 0
    assert math.isnan(found[1])
    assert found[2] == math.inf
    assert found[4] == 1


def test_sparse_and_complex_ones():
    sparse = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([1.0, 2.0]), (4,), check_invariants=True)
    assert norms([sparse, torch.tensor([3 + 4j])]) == [3.0, 5.0]
    assert norms([]) == []
