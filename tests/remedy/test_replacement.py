"""A replaced module is called, and answers, as the one that stood there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime import Recurrent
from throughtime.errors import InputError, RecipeError
from throughtime.remedy import TreatmentPlan

CELLS = ("elman", "gru", "lstm", "lru", "layer-norm-lstm", "orthogonal", "mingru", "slstm")


def swapped(old: nn.Module, cell: str, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    holder = nn.ModuleDict({"rnn": old})
    optimizer = torch.optim.SGD(holder.parameters(), lr=0.1)
    TreatmentPlan(cell=cell, **more).apply(holder, optimizer)
    assert {p for group in optimizer.param_groups for p in group["params"]} == set(holder.parameters())
    return holder["rnn"]


def first(state: Any) -> Tensor:
    return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_and_states_have_the_form_of_the_old_ones(kind: Any, cell: str, bidirectional: bool) -> None:
    old = kind(3, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
    new = swapped(old, cell)
    x = torch.randn(4, 9, 3)
    (y, state), (y_old, state_old) = new(x), old(x)
    assert y.shape == y_old.shape
    assert type(state) is type(state_old)
    assert first(state).shape == first(state_old).shape
    torch.testing.assert_close(first(state)[-1 - bidirectional], y[:, -1, :6])
    if bidirectional:
        torch.testing.assert_close(first(state)[-1], y[:, 0, 6:])
    new.flatten_parameters()
    assert (new.hidden_size, new.num_layers, new.batch_first) == (6, 2, True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_that_comes_back_goes_on_where_it_was(cell: str) -> None:
    """As it is or detached, all of it, though the interface has room for h alone."""
    new = swapped(nn.RNN(3, 6, num_layers=2), cell).double()
    x = torch.randn(9, 4, 3, dtype=torch.float64)
    whole, _ = new(x)
    for detached in (False, True):
        y, state = new(x[:4])
        rest, _ = new(x[4:], state.detach() if detached else state)
        torch.testing.assert_close(torch.cat([y, rest]), whole)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(_carried(new, x, detach=False), x)
    assert bool(slope[:4].abs().sum() > 0)
    (slope,) = torch.autograd.grad(_carried(new, x, detach=True), x)
    assert not bool(slope[:4].any())


def _carried(new: nn.Module, x: Tensor, *, detach: bool) -> Tensor:
    _, state = new(x[:4])
    return new(x[4:], state.detach() if detach else state)[0].sum()


@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_packed_sequences_of_any_order(cell: str) -> None:
    new = swapped(nn.GRU(3, 6, bidirectional=True, batch_first=True), cell)
    x, lengths = torch.randn(3, 8, 3), torch.tensor([5, 8, 2])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, h = new(packed)
    padded, _ = pad_packed_sequence(y, batch_first=True)
    for row, length in enumerate(lengths.tolist()):
        alone, last = new(x[row : row + 1, :length])
        torch.testing.assert_close(padded[row, :length], alone[0])
        torch.testing.assert_close(h[:, row], last[:, 0])


def test_one_sequence_without_a_batch() -> None:
    new = swapped(nn.LSTM(3, 6), "gru")
    x = torch.randn(8, 3)
    y, (h, _) = new(x)
    assert y.shape == (8, 6)
    assert h.shape == (1, 6)
    torch.testing.assert_close(y, new(x.unsqueeze(1))[0].squeeze(1))


def test_a_state_from_elsewhere_is_where_it_begins() -> None:
    new = swapped(nn.GRU(3, 6), "elman")
    x, h = torch.randn(5, 2, 3), torch.randn(1, 2, 6)
    assert not torch.allclose(new(x, h)[0], new(x)[0])
    torch.testing.assert_close(new(x, torch.zeros(1, 2, 6))[0], new(x)[0])
    with pytest.raises(InputError, match=r"the state must have the shape \(1, 2, 6\), not \(1, 3, 6\)"):
        new(x, torch.ones(1, 3, 6))


@pytest.mark.parametrize("cell", ["gru", "lstm", "lru"])
def test_cells_that_the_model_steps_itself(cell: str) -> None:
    torch.manual_seed(0)
    old = nn.LSTMCell(3, 6)
    new = swapped(old, cell)
    x, state = torch.randn(5, 2, 3), None
    ys = []
    for x_t in x:
        state = new(x_t, state)
        ys.append(state[0])
    torch.testing.assert_close(torch.stack(ys), new.layer(x)[0])


def test_one_module_in_two_places_stays_one() -> None:
    shared = nn.RNN(3, 3)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    model, _ = TreatmentPlan(cell="gru").apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert model["a"] is model["b"][0]
    assert model["a"] is not shared


def test_frozen_dtype_mode_and_a_model_that_is_the_module() -> None:
    old = nn.RNN(3, 6).double().eval().requires_grad_(False)
    out = nn.Linear(6, 2)
    optimizer = torch.optim.SGD([*old.parameters(), *out.parameters()], lr=0.1)
    new, _ = TreatmentPlan(cell="lstm").apply(old, optimizer)
    assert new is not old
    assert not new.training
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in new.parameters())


def test_a_recurrent_layer_and_a_copy() -> None:
    new = swapped(Recurrent("lstm", 3, 6, num_layers=2, batch_first=True), "gru")
    x = torch.randn(2, 5, 3)
    y, _ = new(x)
    twin = copy.deepcopy(new)
    torch.testing.assert_close(twin(x)[0], y)


def test_layer_norm_and_skip_keep_the_cell() -> None:
    for plan in ({"layer_norm": True}, {"skip": 3}):
        holder = nn.ModuleDict({"rnn": nn.GRU(3, 6)})
        TreatmentPlan(**plan).apply(holder, torch.optim.SGD(holder.parameters(), lr=0.1))
        assert "GRU" in repr(holder)
        assert holder["rnn"](torch.randn(5, 2, 3))[0].shape == (5, 2, 6)


def test_a_model_without_recurrent_modules_says_so() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(RecipeError, match="no recurrent module that could get another cell"):
        TreatmentPlan(cell="gru").apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
