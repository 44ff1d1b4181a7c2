import pytest
import torch
from torch import nn

from throughtime.cell import make_cell

TWINS = {"elman": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.mark.parametrize("name", TWINS)
def test_one_step_equals_the_cell_of_torch(name):
    torch.manual_seed(0)
    twin = TWINS[name](3, 5, dtype=torch.float64)
    cell = make_cell(name, 3, 5, init="torch").double()
    cell.load_state_dict(twin.state_dict())  # the same names and shapes: conversion is a copy
    x = torch.randn(4, 3, dtype=torch.float64)
    state = tuple(torch.randn(4, 5, dtype=torch.float64) for _ in cell.state_names)
    (h, *rest), output = cell.step(cell.project(x.unsqueeze(0))[0], state)
    expected = twin(x, state if name == "lstm" else state[0])
    torch.testing.assert_close((h, *rest), expected if name == "lstm" else (expected,), rtol=0, atol=1e-14)
    assert output is h
