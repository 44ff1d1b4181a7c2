"""Forms that users' models and data come in, compared with the plain form of the same thing, and what goes wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from measurement.running_out import ways_to_run_out
from measurement.taggers import Tagger, curve, squares
from throughtime.errors import InputError, RecipeError
from throughtime.layer import Recurrent
from throughtime.measurement.gradient import measure


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(12, 3, 5)


def test_positions_further_apart_than_the_range_of_numbers_are_all_measured():
    torch.manual_seed(0)
    model = Tagger(nn.RNN(5, 6)).double()
    with torch.no_grad():
        nn.init.orthogonal_(model.recurrent.weight_hh_l0, gain=1e-3)
        model.recurrent.bias_ih_l0.zero_(), model.recurrent.bias_hh_l0.zero_()
    record = measure(model, torch.zeros(900, 6, 5), torch.zeros(900, 6), squares)
    assert max(record.positions) - min(record.positions) > 2 * 400 / 10  # ten powers of two a step
    assert record.log10_gradient[600] - record.log10_gradient[1] == pytest.approx(-3 * 599, abs=1e-6)


def test_frozen_weights_change_nothing(x):
    model = Tagger(nn.LSTM(5, 6))
    expected = curve(model, x, torch.zeros(12, 3), squares)
    assert curve(model.requires_grad_(False), x, torch.zeros(12, 3), squares) == expected


def test_weights_that_are_computed_at_each_call_are_those_of_that_call(x):
    class Halved(nn.Module):  # as weight dropout does it
        def __init__(self, rnn):
            super().__init__()
            self.rnn, self.raw = rnn, nn.Parameter(rnn.weight_hh_l0.detach().clone())
            del rnn._parameters["weight_hh_l0"]
            rnn.weight_hh_l0 = torch.zeros(6, 6)

        def forward(self, x):
            self.rnn.weight_hh_l0 = 0.5 * self.raw
            return self.rnn(x)

    plain, halved = nn.RNN(5, 6), nn.RNN(5, 6)
    halved.load_state_dict(plain.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0.mul_(0.5)
    one, other = Tagger(plain), Tagger(Halved(halved))
    other.read = one.read
    expected = curve(one, x, torch.zeros(12, 3), squares)
    assert curve(other, x, torch.zeros(12, 3), squares, time_dim=0) == pytest.approx(expected, abs=1e-9)


def test_one_sequence_without_a_batch(x):
    for batch_first in (False, True):
        model = Tagger(nn.GRU(5, 6, batch_first=batch_first))
        batched = x[:, :1].transpose(0, 1) if batch_first else x[:, :1]
        found = measure(model, x[:, 0], torch.zeros(12), squares)
        expected = curve(model, batched, torch.zeros(batched.shape[:2]), squares)
        assert found.log10_gradient == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
def test_flattened_outputs_and_targets(batch_first):
    class Flat(Tagger):
        def forward(self, x):
            return super().forward(x).flatten(0, 1)

    torch.manual_seed(0)
    x = torch.randn(20, 12, 5) if batch_first else torch.randn(12, 20, 5)
    model, targets = Tagger(nn.GRU(5, 6, batch_first=batch_first)), torch.randint(4, x.shape[:2])
    flat = Flat(model.recurrent)
    flat.read = model.read
    loss = nn.functional.cross_entropy
    expected = curve(model, x, targets, lambda o, t: loss(o.flatten(0, 1), t.flatten()))
    assert curve(flat, x, targets.flatten(), loss, output_dims=(0, 0)) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(InputError, match=r"give output_dims=\(0, 0\)"):
        measure(flat, x, targets.flatten(), loss)
    with pytest.raises(InputError, match="axis 1 does not hold 12 steps of 8 sequences"):
        measure(flat, x, targets.flatten(), loss, output_dims=(1, 1))


def test_a_carried_state_in_a_tuple_of_its_own():
    torch.manual_seed(0)
    x, h, c = torch.randn(12, 20, 5), torch.randn(1, 20, 6), torch.randn(1, 20, 6)
    model = Tagger(nn.LSTM(5, 6))
    record = measure(model, (x, (h, c)), torch.zeros(12, 20), squares)
    assert record.precision == "float64"
    ours = Tagger(Recurrent.from_torch(model.recurrent))
    ours.read = model.read
    expected = curve(ours, (x, (h, c)), torch.zeros(12, 20), squares)
    assert record.log10_gradient == pytest.approx(expected, abs=1e-9)


def test_a_final_state_as_the_output_is_one_for_each_sequence(x):
    class Final(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(5, 6)

        def forward(self, x):
            return self.gru(x)[1]

    record = measure(Final(), x)
    assert len(record.lags) == 12
    assert not record.notes


@ways_to_run_out
def test_a_smaller_batch_where_memory_runs_out(run_out):
    class Hungry(Tagger):
        def forward(self, x):
            if x.size(1) > 3:
                run_out()
            return super().forward(x)

    torch.manual_seed(0)
    x, model = torch.randn(12, 20, 5), Hungry(nn.GRU(5, 6))
    record = measure(model, x, torch.zeros(12, 20), squares)
    assert record.profile.num_sequences == 2
    assert record.notes == ("out of memory with 4 sequences: 2 were measured",)
    assert "out of memory" in str(record)

    class Insatiable(Tagger):
        def forward(self, x):
            run_out()

    with pytest.raises(InputError, match="out of memory with 1 sequences of 12 steps"):
        measure(Insatiable(nn.GRU(5, 6)), x, torch.zeros(12, 20), squares)


def test_inference_tensors_are_no_obstacle(x):
    torch.manual_seed(1)
    expected = curve(Tagger(nn.GRU(5, 6)), x, torch.zeros(12, 3), squares)
    torch.manual_seed(1)
    with torch.inference_mode():
        model, inside = Tagger(nn.GRU(5, 6)), x.clone()
        assert curve(model, inside, torch.zeros(12, 3), squares) == expected
    assert curve(model, inside, torch.zeros(12, 3), squares) == expected


class Loop(nn.Module):
    """A cell in a loop of the user's own, cut off before every so many steps."""

    def __init__(self, cell, every):
        super().__init__()
        self.cell, self.read, self.every = cell, nn.Linear(6, 4), every

    def forward(self, x):
        state = None
        for t, now in enumerate(x):
            if state is not None and self.every and t % self.every == 0:
                state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
            state = self.cell(now, state)
        return self.read(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_state_that_is_detached_in_a_loop_is_still_one_recurrence(kind, x):
    cut = Loop(kind(5, 6), 5)
    whole = Loop(cut.cell, None)
    whole.read = cut.read
    record = measure(cut, x, torch.zeros(3), squares, time_dim=0)
    assert len(record.lags) == 12
    assert record.log10_gradient[:2] == measure(whole, x, torch.zeros(3), squares, time_dim=0).log10_gradient[:2]
    assert record.log10_gradient[1] is not None  # the last five steps begin at 10
    assert record.log10_gradient[2:] == (None,) * 10
    assert (record.reach, record.reach_censored) == (1, False)
    assert not record.profile.notes


def test_sequences_whose_loss_is_zero_are_left_out(x):
    class Last(Tagger):
        def forward(self, x):
            return super().forward(x)[-1]

    def loss(outputs, targets):
        return squares(outputs, targets) * (targets != -100)

    model, targets = Last(nn.GRU(5, 6)), torch.tensor([1, -100, 2])
    record = measure(model, x, targets, loss)
    assert record.profile.num_sequences == 2
    assert record.profile.notes == ("the loss depends on it at lag 0 in 2 of 3 sequences: these were measured",)
    expected = measure(model, x[:, [0, 2]], targets[[0, 2]], loss)
    assert record.log10_gradient == pytest.approx(expected.log10_gradient, abs=1e-12)
    assert len(record.lags) == 12


def test_outputs_without_an_axis_of_features(x):
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.read = nn.GRU(5, 6), nn.Linear(6, 1)

        def forward(self, x):
            return self.read(self.recurrent(x)[0]).squeeze(-1)

    class Plain(Squeezed):
        def forward(self, x):
            return super().forward(x).unsqueeze(-1)

    torch.manual_seed(1)
    squeezed, plain = Squeezed(), Plain()
    plain.load_state_dict(squeezed.state_dict())
    for inputs in (x, torch.randn(12, 12, 5)):
        expected = curve(plain, inputs, torch.zeros(inputs.shape[:2]), lambda o, t: (o.squeeze(-1) - t).square())
        found = curve(squeezed, inputs, torch.zeros(inputs.shape[:2]), lambda o, t: (o - t).square())
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_loss_counts_where_there_is_a_target(x):
    torch.manual_seed(0)
    model, targets = Tagger(nn.GRU(5, 6)), torch.full((12, 3), -100)
    targets[4, 0], targets[6, 1], targets[11, 2] = 1, 2, 3

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(12, 3)

    record = measure(model, x, targets, loss)
    assert record.positions == (4, 6, 11)
    assert len(record.lags) == 5
    assert record.profile.num_sequences == 3


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([nn.RNN, nn.GRU, nn.LSTM]),
    num_steps=st.integers(2, 9),
    batch=st.integers(1, 4),
    size=st.integers(1, 5),
    layers=st.integers(1, 2),
    both_ways=st.booleans(),
)
def test_any_shape_has_lag_zero_and_agrees_in_both_layouts(kind, num_steps, batch, size, layers, both_ways):
    torch.manual_seed(0)
    time_first = Tagger(kind(size, size, layers, bidirectional=both_ways), size * (1 + both_ways))
    batch_first = Tagger(kind(size, size, layers, bidirectional=both_ways, batch_first=True), size * (1 + both_ways))
    batch_first.load_state_dict(time_first.state_dict())
    x = torch.randn(num_steps, batch, size)
    one = measure(time_first, x, torch.zeros(num_steps, batch), squares)
    other = measure(batch_first, x.transpose(0, 1), torch.zeros(batch, num_steps), squares)
    assert set(one.modules) == set(other.modules)
    assert len(one.modules) == layers * (1 + both_ways)
    for name, profile in one.modules.items():
        assert profile.log10_gradient == pytest.approx(other.modules[name].log10_gradient, abs=1e-9)
        assert profile.log10_gradient[0] == pytest.approx(0, abs=1e-12)
        assert all(math.isfinite(value) for value in profile.log10_gradient)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": lambda x: x}, InputError, "the model is of type function: expected a torch.nn.Module"),
        ({"model": Tagger(nn.GRU(5, 6)).to("meta")}, InputError, "on the meta device there are no numbers"),
        ({"inputs": torch.zeros(12, 0, 5)}, InputError, "hold no sequence along axis 1"),
        ({"inputs": torch.zeros(12, 3, 5, dtype=torch.int64)}, InputError, "convert one with .to"),
        ({"inputs": {}}, InputError, "the inputs hold no tensor"),
        ({"time_dim": 7}, InputError, "have no axis 7"),
        ({"time_dim": 0, "batch_dim": -3}, InputError, "are not two axes of the inputs"),
        ({"max_lag": 0}, RecipeError, "max_lag must be at least 1"),
        ({"lengths": [12, 5, 13]}, InputError, "lengths must be 3 numbers from 1 to 12"),
    ],
)
def test_bad_input_gets_one_clear_line(change, error, message, x):
    choices = {"model": Tagger(nn.GRU(5, 6)), "inputs": x, "targets": torch.zeros(12, 3), "loss": squares} | change
    with pytest.raises(error, match=message) as caught:
        measure(choices.pop("model"), choices.pop("inputs"), **choices)
    assert "\n" not in str(caught.value)


def test_a_loss_that_the_model_returns_first_is_not_its_output(x):
    class WithLoss(nn.Module):  # as models of transformers return it
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            outputs = self.inner(x)
            return {"loss": outputs.square().mean(), "logits": outputs}

    tagger = Tagger(nn.GRU(5, 6))
    assert curve(WithLoss(tagger), x, torch.zeros(12, 3), squares) == curve(tagger, x, torch.zeros(12, 3), squares)


class KeepsState(nn.Module):
    """The last output of each sequence; its state goes on from call to call, and is of the batch's size."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.read = kind(5, 6), nn.Linear(6, 2)
        self._state = None

    def forward(self, x):
        out, state = self.recurrent(x, self._state)
        self._state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return self.read(out[-1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_state_of_the_batch_s_size_is_kept_and_all_sequences_are_measured(kind):
    torch.manual_seed(0)
    model, x, y = KeepsState(kind), torch.randn(9, 12, 5), torch.zeros(12, 2)
    plain = measure(model, x, y, squares, num_sequences=12)
    assert model._state is None
    model(torch.zeros(9, 12, 5))
    kept = model._state
    before = [part.clone() for part in (kept if isinstance(kept, tuple) else (kept,))]
    record = measure(model, x, y, squares)
    assert record.precision == "float64"
    assert record.profile.num_sequences == 12
    assert any("on all 12 sequences alone" in note for note in record.notes)
    assert record.log10_gradient != plain.log10_gradient  # it began from the state that was kept
    assert model._state is kept
    after = kept if isinstance(kept, tuple) else (kept,)
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))


def test_a_model_that_fails_for_another_reason_says_so_itself(x):
    class Refuses(KeepsState):
        def forward(self, x):
            raise ValueError("no")

    with pytest.raises(InputError, match="no"):
        measure(Refuses(nn.RNN), torch.randn(9, 12, 5), torch.zeros(12, 2), squares)
