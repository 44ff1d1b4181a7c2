"""How a loop treats its state, from what its model is called with and returns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime.measurement.watch_carry import Carrying

B, H = 4, 3


def call(carrying, x, state, result):
    if not carrying.full:
        carrying.called((x, state), {})
    if not carrying.full:
        carrying.returned(result)


@pytest.mark.parametrize("share", [0, 2, B])
def test_rows_that_are_handed_on_are_counted(share):
    carrying, state = Carrying(), torch.zeros(1, B, H)
    for _ in range(10):
        returned = torch.randn(1, B, H)
        call(carrying, torch.randn(5, B, 2), state, (torch.randn(5, B, H), returned))
        state = torch.cat([returned[:, :share], torch.zeros(1, B - share, H)], dim=1)
    found = carrying.found()
    assert (found["handed_on"], found["going_on"], found["num_calls"]) == (share / B, None, 9)
    assert {value for name, value in found.items() if name.startswith(("kept", "linked"))} == {None}


@pytest.mark.parametrize(("detach", "handed_on"), [(False, 0.0), (True, 1.0)])
def test_steps_of_a_sequence_that_is_unrolled_outside_are_no_batches(detach, handed_on):
    """A loop of three sequences, each of four calls, with the state between sequences detached, or a fresh one."""
    carrying, cell, h = Carrying(), nn.GRUCell(2, H), torch.zeros(B, H)
    for _ in range(3):
        for _ in range(4):
            x = torch.randn(B, 2)
            after = cell(x, h)
            call(carrying, x, h, (after.sum(1), after))
            h = after
        h = h.detach() if detach else torch.zeros(B, H)
    found = carrying.found()
    assert (found["handed_on"], found["num_calls"]) == (handed_on, 2)


@pytest.mark.parametrize("with_state", [False, True])
def test_it_looks_at_the_first_calls_alone_and_keeps_nothing(with_state):
    """Also of a model that returns no state: looking for one costs a copy of the inputs at each step."""
    carrying = Carrying()
    for _ in range(64):
        assert not carrying.full
        result = (torch.randn(5, B, H), torch.randn(1, B, H)) if with_state else torch.randn(5, B, H)
        call(carrying, torch.randn(5, B, 2), None, result)
    assert carrying.full
    assert (carrying.found() is not None) is with_state
    held, _ = torch.utils._pytree.tree_flatten(vars(carrying))
    assert not any(isinstance(value, torch.Tensor) for value in held)


class Keeper(nn.Module):
    """Keeps its state, and a table that never changes."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(2, H)
        self.register_buffer("table", torch.randn(5, B))
        self.state = None

    def forward(self, x):
        h, state = self.rnn(x, self.state)
        self.state = tuple(part.detach() for part in state)
        return h


def calls_of(model, between=lambda _: None):
    carrying = Carrying(model)
    for _ in range(6):
        x = torch.randn(5, B, 2)
        carrying.called((x,), {})
        carrying.returned(model(x))
        between(model)
    return carrying.found()


def cut_off(model):
    model.state = tuple(part.clone() for part in model.state)


def emptied(model):
    for part in model.state:
        part.zero_()


def half(model):
    model.state = tuple(part * (torch.arange(B) < B / 2).unsqueeze(1) for part in model.state)


def forget(model):
    model.state = None


@pytest.mark.parametrize(
    ("between", "kept"), [(lambda _: None, 1), (cut_off, 1), (half, 0.5), (emptied, 0), (forget, 0)]
)
def test_a_state_that_a_model_keeps_itself_and_what_a_loop_does_to_it(between, kept):
    found = calls_of(Keeper(), between)
    assert (found["kept"], found["handed_on"], found["num_calls"]) == (kept, 0, 5)


def test_a_model_without_a_state_of_its_own_keeps_none():
    assert calls_of(nn.RNN(2, H))["kept"] is None
