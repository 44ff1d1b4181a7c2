"""How a loop treats its state, from what its model is called with and returns."""

from __future__ import annotations

import pytest
import torch

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
    assert carrying.found() == {"handed_on": share / B, "going_on": None, "num_calls": 9}


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
