"""Noise on the inputs: in training alone, in proportion to each feature, and the same by the printed code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from throughtime.errors import RecipeError
from throughtime.remedy import TreatmentPlan
from throughtime.remedy.noising import NoisyInputs


class Seen(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, ids: Tensor, x: Any) -> Any:
        return ids, x


def noisy(deviation: float) -> nn.Module:
    model = Seen()
    return TreatmentPlan(input_noise=deviation).apply(model, torch.optim.SGD(model.parameters(), lr=0.1))[0]


def test_noise_is_of_the_size_of_each_feature_and_there_in_training_alone() -> None:
    torch.manual_seed(0)
    model, ids = noisy(0.5), torch.arange(3)
    x = torch.stack([torch.randn(500, 20), 1000 + 100 * torch.randn(500, 20), torch.full((500, 20), 7.0)], dim=-1)
    same, given = model(ids, x)
    assert same is ids
    noise = given - x
    assert noise[..., 0].std().item() == pytest.approx(0.5, rel=0.05)
    assert noise[..., 1].std().item() == pytest.approx(50, rel=0.05)
    assert torch.equal(given[..., 2], x[..., 2])
    assert not torch.allclose(noise[0, :, 0], noise[1, :, 0])
    assert not torch.equal(model(ids, x=x)[1], given)
    assert model.eval()(ids, x)[1] is x


def test_packed_sequences_and_single_rows_of_numbers() -> None:
    torch.manual_seed(0)
    packed = pack_sequence([torch.randn(30, 2), torch.randn(20, 2)])
    _, given = noisy(0.1)(torch.arange(3), packed)
    assert torch.equal(given.batch_sizes, packed.batch_sizes)
    assert 0.05 < (given.data - packed.data).std() < 0.2
    row = torch.tensor([0.0, 2.0, 4.0])
    assert NoisyInputs(0.0).noisy(row).tolist() == row.tolist()
    assert bool((NoisyInputs(1.0).noisy(row) != row).all())


def test_a_negative_deviation_is_none() -> None:
    with pytest.raises(RecipeError, match="input_noise must be at least 0"):
        TreatmentPlan(input_noise=-1.0)
