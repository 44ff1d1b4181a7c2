"""Where units and gates stand: as counted by hand, in modules that are known and in loops of a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diagnosis.patients import LastStep, evidence, first_input, mse
from throughtime.diagnosis.activity import Activity, activities
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.reach import closed_gates

TANH_END = math.sqrt(0.9)  # beyond it 1 - tanh^2 is below a tenth


class Own(nn.Module):
    """h = f(W x + U h), written by hand."""

    def __init__(self, function: Callable[[Tensor], Tensor], scale: float = 5.0) -> None:
        super().__init__()
        self.first, self.again, self.out = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.function, self.scale = function, scale
        with torch.no_grad():
            self.first.weight[0] = 0
            self.again.weight[0] = 0
            self.first.bias[0], self.again.bias[0] = -9, 0  # the first unit is always at its lower end

    def states(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.size(1), 6), []
        for now in x:
            h = self.function(self.scale * (self.first(now) + self.again(h)))
            found.append(h.clone())
        return torch.stack(found)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.states(x)[-1]))  # once, and no part of the recurrence


def of(model: nn.Module) -> tuple[Activity, ...]:
    return activities(evidence(model, *first_input(8, 12), mse, time_dim=0))


@pytest.mark.parametrize("function", [torch.tanh, F.tanh, lambda x: x.clone().tanh_(), nn.Tanh(), lambda x: x.tanh()])
def test_tanh_in_any_spelling(function: Callable[[Tensor], Tensor]) -> None:
    model = Own(function)
    (found,) = of(model)
    states = model.states(first_input(8, 12)[0])
    assert (found.name, found.function) == ("tanh of 6", "tanh")
    assert found.low == pytest.approx((states < -TANH_END).double().mean().item(), abs=1e-6)
    assert found.high == pytest.approx((states > TANH_END).double().mean().item(), abs=1e-6)
    assert found.flat == found.low + found.high
    assert found.low > 1 / 6
    assert found.stuck == pytest.approx(1 / 6)
    assert found.mean == pytest.approx(states.abs().mean().item(), abs=1e-6)


@pytest.mark.parametrize("function", [torch.sigmoid, nn.Sigmoid(), lambda x: x.sigmoid_()])
def test_sigmoid(function: Callable[[Tensor], Tensor]) -> None:
    model = Own(function)
    (found,) = of(model)
    states = model.states(first_input(8, 12)[0])
    slope = 4 * states * (1 - states)
    assert found.function == "sigmoid"
    assert found.low == pytest.approx(((slope < 0.1) & (states < 0.5)).double().mean().item(), abs=1e-6)
    assert found.high == pytest.approx(((slope < 0.1) & (states > 0.5)).double().mean().item(), abs=1e-6)
    assert found.mean == pytest.approx(states.mean().item(), abs=1e-6)


@pytest.mark.parametrize("function", [torch.relu, F.relu, nn.ReLU(), lambda x: x.relu()])
def test_relu(function: Callable[[Tensor], Tensor]) -> None:
    model = Own(function)
    (found,) = of(model)
    states = model.states(first_input(8, 12)[0])
    assert (found.function, found.high) == ("relu", 0)
    assert found.low == pytest.approx((states == 0).double().mean().item(), abs=1e-6)
    assert found.stuck == (states == 0).all(0).all(0).double().mean().item()
    assert found.stuck >= 1 / 6


def test_modules_that_are_known_are_told_by_unit_and_gate() -> None:
    found = {each.name: each for each in of(LastStep(nn.LSTM(3, 6)))}
    assert {name: each.function for name, each in found.items()} == {
        "rnn.l0.i": "sigmoid",
        "rnn.l0.f": "sigmoid",
        "rnn.l0.o": "sigmoid",
        "rnn.l0.g": "tanh",
        "rnn.l0.tanh(c)": "tanh",
    }
    assert all(0.3 < found[f"rnn.l0.{gate}"].mean < 0.7 for gate in "ifo")


def test_both_ways_count_the_same() -> None:
    rnn = nn.RNN(3, 6)
    with torch.no_grad():
        rnn.weight_ih_l0.mul_(20)
    own = Own(torch.tanh, 1.0)
    own.first.load_state_dict({"weight": rnn.weight_ih_l0, "bias": rnn.bias_ih_l0})
    own.again.load_state_dict({"weight": rnn.weight_hh_l0, "bias": rnn.bias_hh_l0})
    (known,), (caught,) = of(LastStep(rnn)), of(own)
    assert known.name == "rnn.l0.h"
    assert known.flat > 0.2
    for name in ("low", "high", "stuck", "mean"):
        assert getattr(known, name) == pytest.approx(getattr(caught, name), abs=1e-3)


class Gated(nn.Module):
    """An LSTM written by hand, all gates of one shape; the bias of its forget gate is given."""

    def __init__(self, forget: float) -> None:
        super().__init__()
        self.weights, self.out = nn.Linear(9, 24), nn.Linear(6, 1)
        nn.init.zeros_(self.weights.bias)
        nn.init.constant_(self.weights.bias[6:12], forget)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.size(1), 6)
        for now in x:
            i, f, o, g = self.weights(torch.cat([now, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


def test_gates_of_one_shape_are_told_apart_by_their_order() -> None:
    torch.manual_seed(0)
    found = {each.name: each for each in of(Gated(-6.0))}
    assert sorted(found) == [
        *(f"sigmoid {k} of 3 in a step" for k in (1, 2, 3)),
        *(f"tanh {k} of 2 in a step" for k in (1, 2)),
    ]
    forget, *others = (found[f"sigmoid {k} of 3 in a step"].mean for k in (1, 2, 3))
    assert forget < 0.01
    assert all(0.4 < gate < 0.6 for gate in others)


@pytest.mark.parametrize(("forget", "code"), [(-6.0, "closed-gates"), (2.0, None)])
def test_an_open_gate_is_not_taken_for_a_shut_one(forget: float, code: str | None) -> None:
    """Which way it works nobody knows, but a gradient that fades slowly tells that nothing wipes the state out."""
    torch.manual_seed(0)
    found = closed_gates(evidence(Gated(forget), *first_input(16, 80), mse, time_dim=0, need=79))
    assert (None if found is None else found.code) == code


def test_what_runs_less_than_once_a_step_is_no_recurrence() -> None:
    class Feedforward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(torch.tanh(self.out(x.mean(0))))

    with pytest.raises(Missing, match="a recurrence with tanh, sigmoid or ReLU units"):
        of(Feedforward())


def test_other_functions_are_not_guessed() -> None:
    with pytest.raises(Missing, match="tanh, sigmoid or ReLU"):
        of(Own(torch.sin))
