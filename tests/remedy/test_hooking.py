"""What a plan puts before and behind modules."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from throughtime.errors import RecipeError
from throughtime.remedy import TreatmentPlan
from throughtime.remedy.hooking import ScaleRecurrence, StandardiseInputs


def treated(model: nn.Module, **fields: Any) -> nn.Module:
    return TreatmentPlan(**fields).apply(model, torch.optim.SGD(model.parameters(), lr=0.1))[0]


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 4)

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        return self.rnn(x)[0] + ids.sum()


def test_inputs_are_standardised_feature_by_feature_and_cut_off() -> None:
    torch.manual_seed(0)
    model = nn.RNN(2, 4)
    plain = copy.deepcopy(model)
    x = torch.tensor([[[10.0, 0.0]], [[14.0, 300.0]]])
    model = treated(model, input_mean=(10.0, 100.0), input_deviation=(2.0, 100.0), clip_outliers=1.5)
    torch.testing.assert_close(model(x)[0], plain(torch.tensor([[[0.0, -1.0]], [[1.5, 1.5]]]))[0])
    packed = pack_sequence([x[:, 0]])
    torch.testing.assert_close(model(packed)[0].data, model(x)[0][:, 0])


def test_the_first_argument_of_real_numbers_is_the_one() -> None:
    torch.manual_seed(0)
    model, x = Named(), torch.randn(3, 1, 2)
    expected = model(torch.ones(2), (x - 1) / 2)
    ids = torch.ones(2, dtype=torch.long)
    treated(model, input_mean=(1.0,), input_deviation=(2.0,))
    torch.testing.assert_close(model(ids, x), expected)
    torch.testing.assert_close(model(ids, x=x), expected)


class Streams(nn.Module):
    """Two streams, and maybe a third."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 4)

    def forward(self, x: Tensor, z: Tensor, extra: Tensor | None = None) -> Tensor:
        y = self.rnn(x)[0] + self.rnn(z)[0]
        return y if extra is None else y + self.rnn(extra)[0]


def test_other_arguments_are_standardised_by_their_names() -> None:
    torch.manual_seed(0)
    model, x, z = Streams(), torch.randn(3, 1, 2), torch.randn(3, 1, 2)
    expected = model(x, z)
    others = (("z", (5.0, 7.0), (10.0,)), ("extra", (1.0,), (2.0,)))
    treated(model, other_inputs=others)
    raw = 10 * z + torch.tensor([5.0, 7.0])
    torch.testing.assert_close(model(x, raw), expected)
    torch.testing.assert_close(model(x, z=raw), expected)
    torch.testing.assert_close(model(z=raw, x=x, extra=None), expected)
    torch.testing.assert_close(model(x, raw, 2 * x + 1), expected + model.rnn(x)[0])
    with pytest.raises(RecipeError, match="unknown argument of the model 'w'"):
        treated(model, other_inputs=(("w", (1.0,), (2.0,)),))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_gain_scales_what_is_read_and_leaves_the_recurrence(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind(2, 4)
    plain = copy.deepcopy(model)
    treated(model, recurrent_gain=10.0)
    x = torch.randn(6, 3, 2)
    y, state = model(x[:2])
    rest, state = model(x[2:], state)
    whole, last = plain(x)
    torch.testing.assert_close(torch.cat([y, rest]), 10 * whole)
    h, h_plain = (s[0] if kind is nn.LSTM else s for s in (state, last))
    torch.testing.assert_close(h, 10 * h_plain)
    if kind is nn.LSTM:
        torch.testing.assert_close(state[1], last[1])


def test_a_gain_of_cells_and_of_inputs() -> None:
    torch.manual_seed(0)
    cell = nn.LSTMCell(2, 4)
    plain = copy.deepcopy(cell)
    ScaleRecurrence(cell, 5.0, 0.5)
    x = torch.randn(3, 2, 2)
    state = state_plain = None
    for x_t in x:
        state, state_plain = cell(x_t, state), plain(0.5 * x_t, state_plain)
    assert state is not None
    assert state_plain is not None
    torch.testing.assert_close(state[0], 5 * state_plain[0])
    torch.testing.assert_close(state[1], state_plain[1])


def test_dropout_goes_where_the_model_has_some_or_behind_the_recurrence() -> None:
    torch.manual_seed(0)
    has = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    treated(has, dropout=0.5)
    assert has[1].p == 0.5
    model = treated(nn.RNN(2, 50, batch_first=True), dropout=0.5)
    x = torch.randn(2, 6, 2)
    y, h = model(x)
    dropped = (y == 0).all(1)
    assert 10 < int(dropped[0].sum()) < 40
    assert torch.equal(dropped, (y == 0).any(1))
    assert bool((h != 0).all())
    assert bool((model.eval()(x)[0] != 0).all())


class Detaching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fails = nn.RNNCell(2, 4), False

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), 4)
        for x_t in x:
            h = self.cell(x_t, h.detach())
            if self.fails:
                raise RuntimeError("on purpose")
        return h


def test_nothing_is_detached_inside_the_model_and_everything_outside() -> None:
    torch.manual_seed(0)
    model, x = Detaching(), torch.randn(5, 1, 2, requires_grad=True)
    (cut,) = torch.autograd.grad(model(x).sum(), x)
    assert not bool(cut[0].any())
    treated(model, keep_graph=True)
    for each in (model, copy.deepcopy(model)):
        y = each(x)
        (whole,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        assert bool(whole[0].any())
        assert not y.detach().requires_grad
    model.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        model(x)
    assert not x.detach().requires_grad


def test_hooks_are_copied_and_pickled_with_the_model() -> None:
    torch.manual_seed(0)
    model = treated(
        nn.RNN(2, 4), input_mean=(1.0,), recurrent_gain=3.0, dropout=0.1, keep_graph=True, recurrent_input_gain=2.0
    ).eval()
    x = torch.randn(5, 1, 2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x)[0], model(x)[0])
    assert StandardiseInputs((0.0,), (1.0,)).standardised(x) is not x
