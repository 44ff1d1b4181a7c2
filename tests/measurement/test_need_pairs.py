"""Pairs of lags: found where two inputs tell the target together, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from throughtime.measurement import need
from throughtime.measurement.need_pairs import need_by_pairs


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_sum_of_two_ids_modulo_eight(seed: int) -> None:
    ids = torch.randint(8, (48, 20), generator=drawn(seed))
    y = torch.full_like(ids, -100)
    y[:, 4:] = (ids[:, 4:] + ids[:, :-4]) % 8
    assert need(ids, y, time_dim=1, information="variance").need is None, "no single lag tells"
    found = need_by_pairs(ids, y, time_dim=1)
    assert found is not None
    assert (found.newer, found.older, found.num_rows) == (0, 4, 240)


@pytest.mark.parametrize("seed", range(5))
def test_the_signs_of_two_numbers(seed: int) -> None:
    x = torch.randn(30, 512, 3, generator=drawn(seed))
    found = need_by_pairs(x, (x[-1, :, 0] * x[-12, :, 1] > 0).long(), time_dim=0)
    assert found is not None
    assert (found.newer, found.older) == (0, 11)


def noises(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs that say nothing about their targets: plain, heavy-tailed, rare and slow ones."""
    draw = drawn(seed)
    rare = torch.randint(12, (50, 20), generator=draw) * (torch.rand(50, 20, generator=draw) < 0.2)
    return [
        (torch.randn(120, 20, 2, generator=draw), torch.randint(3, (120,), generator=draw)),
        (torch.randn(150, 15, 4, generator=draw) ** 3, torch.randn(150, generator=draw) ** 3),
        (rare, (torch.rand(50, 20, generator=draw) < 0.1).long()),
        (torch.randn(60, 30, 1, generator=draw).cumsum(1), torch.randint(2, (60, 30), generator=draw)),
    ]


def test_no_pair_in_noise() -> None:
    found = [need_by_pairs(x, y, time_dim=1) for seed in range(25) for x, y in noises(seed)]
    assert found == [None] * 100


def test_too_few_rows_and_many_inputs_together_tell_no_pair() -> None:
    bits = torch.randint(2, (400, 20), generator=drawn(0))
    assert need_by_pairs(bits, bits.sum(1) % 2, time_dim=1) is None
    assert need_by_pairs(bits[:80], (bits[:80, -1] + bits[:80, 0]) % 2, time_dim=1) is None
