"""One pass in the model's precision gives what `measure` gives in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import throughtime
from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.measurement.quick_gradient import quick_gradient


class Stack(nn.Module):
    """Two layers of different cells."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Recurrent("lstm", 3, 6)
        self.second = nn.GRU(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]  # type: ignore[no-any-return]  # torch types it loosely


def test_it_agrees_with_measure_for_every_layer() -> None:
    model, x = Stack(), torch.randn(25, 4, 3)
    found = quick_gradient(model, x, lambda last: last.square().sum(-1))
    exact = throughtime.measure(
        model, x, torch.zeros(25, 4), lambda y, _: y[-1].square().sum(-1), time_dim=0, batch_dim=1, num_sequences=4
    )
    assert set(found.modules) == set(exact.modules)
    for name, profile in exact.modules.items():
        assert found.modules[name].reach == profile.reach
        assert found.modules[name].log10_gradient == pytest.approx(profile.log10_gradient, abs=1e-4)


def test_nothing_is_touched() -> None:
    model, x = Stack(), torch.randn(9, 2, 3)
    before = torch.get_rng_state()
    quick_gradient(model, x, lambda last: last.sum(-1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert isinstance(model.first, Recurrent)
    assert not x.requires_grad


def test_what_cannot_be_measured_says_so() -> None:
    with pytest.raises(InputError, match="no recurrence was found in Linear"):
        quick_gradient(nn.Linear(3, 3), torch.randn(9, 2, 3), lambda last: last.sum(-1))
    with pytest.raises(InputError, match="the loss is not finite"):
        quick_gradient(Stack(), torch.randn(9, 2, 3), lambda last: last.sum(-1) * torch.nan)
