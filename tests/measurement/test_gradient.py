"""The gradient through time against networks unrolled by hand, and the model left as it was found."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from throughtime.cell import cells
from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.measurement.gradient import measure
from throughtime.measurement.gradient_record import GradientRecord


class Tagger(nn.Module):
    """A recurrent layer with something read from each step."""

    def __init__(self, recurrent, width):
        super().__init__()
        self.recurrent, self.read = recurrent, nn.Linear(width, 4)

    def forward(self, x):
        y, _ = self.recurrent(x)
        return self.read(y)


class Classifier(Tagger):
    """The same, read from the last step alone."""

    def forward(self, x):
        y, _ = self.recurrent(x)
        return self.read(y[:, -1] if self.recurrent.batch_first else y[-1])


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


def tanh_network(gain, *, size=64, bias=False):
    torch.manual_seed(0)
    rnn = nn.RNN(5, size, batch_first=True, bias=bias)
    with torch.no_grad():
        nn.init.orthogonal_(rnn.weight_hh_l0, gain=gain)
    return Classifier(rnn, size)


def label_first(num_steps, batch=8):
    x = torch.zeros(batch, num_steps, 5)
    x[:, 0] = torch.randn(batch, 5)
    return x, torch.randint(4, (batch,))


def test_the_example_vanishes_as_it_must():
    model = tanh_network(0.8)
    record = measure(model, *label_first(200), nn.CrossEntropyLoss())
    assert record.decay_per_step == pytest.approx(0.80, abs=0.002)
    assert record.log10_gradient[199] == pytest.approx(math.log10(4.6e-20), abs=0.3)
    assert 20 <= record.reach <= 22
    assert not record.reach_censored
    assert record.lags == tuple(range(200))
    assert record.kind == record.profile.kind == "state"
    assert "reaches 2" in str(record)


def test_what_underflows_in_float64_is_measured():
    model = tanh_network(0.5, size=8).double()
    with torch.no_grad():
        nn.init.orthogonal_(model.recurrent.weight_hh_l0, gain=0.5)  # to the last digit of float64
    record = measure(model, *label_first(1500, batch=3), nn.CrossEntropyLoss())
    x = torch.zeros(1, 1500, 5)
    # Far from its start the state is all but zero, and a step is 0.5 times an orthogonal matrix.
    assert record.log10_gradient[1400] - record.log10_gradient[400] == pytest.approx(1000 * math.log10(0.5), abs=1e-6)
    assert measure(model, x, torch.zeros(1, dtype=torch.int64), nn.CrossEntropyLoss()).log10_gradient[
        1499
    ] == pytest.approx(1499 * math.log10(0.5), abs=1e-6)


def test_a_large_gain_explodes_and_nothing_is_nan():
    torch.manual_seed(0)
    rnn = nn.RNN(5, 100, batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0.normal_(std=2.5 / 10)
    record = measure(Classifier(rnn, 100), torch.randn(4, 2000, 5), torch.randint(4, (4,)), nn.CrossEntropyLoss())
    assert record.decay_per_step > 1
    assert record.reach_censored
    assert all(value is not None and math.isfinite(value) for value in record.log10_gradient)


def test_what_overflows_is_cut_off_and_never_called_zero():
    class Doubling(nn.Module):
        def forward(self, x):  # each step's input counts a million times what the next one's does
            h = torch.zeros_like(x[:, 0])
            for t in range(x.size(1)):
                h = (h + x[:, t]) * 1e6
            return h

    x = torch.zeros(2, 60, 3)
    record = measure(Doubling(), x, loss=lambda outputs: outputs.sum(), time_dim=1)
    assert len(record.lags) == 51  # 1e6^52 is beyond the range of float64
    assert any("leaves the range of numbers at lag 51" in note for note in record.profile.notes)
    assert record.profile.log10_state_gradient["input"] == ()


@pytest.mark.parametrize(("bias", "low", "high"), [(-3.0, 0, 6), (5.0, 30, 60)])
def test_the_forget_bias_decides_how_far_an_lstm_reaches(bias, low, high):
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 32, batch_first=True)
    with torch.no_grad():
        lstm.bias_ih_l0[32:64] = bias
        lstm.bias_hh_l0[32:64] = 0
    record = measure(Classifier(lstm, 32), torch.randn(8, 60, 5), torch.randint(4, (8,)), nn.CrossEntropyLoss())
    assert low <= record.reach <= high


def by_hand(cell_step, num_parts, x, start, read, loss_at):
    """d loss / d what each step hands on, by retained identities in a plain loop: (parts, T) of (B, H)."""
    state, handed, outputs = start, [], []
    for x_t in x:
        state = tuple(part.clone() for part in cell_step(x_t, state))
        handed.append(state)
        outputs.append(read(state[0]))
    total = loss_at(torch.stack(outputs))
    flat = [part for step in handed for part in step]
    gradients = torch.autograd.grad(total, flat, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, flat, strict=True)]
    return [gradients[part::num_parts] for part in range(num_parts)]


def rnn_step(rnn):
    def step(x, state):
        (h,) = state
        f = torch.tanh if rnn.nonlinearity == "tanh" else torch.relu
        sums = x @ rnn.weight_ih_l0.t() + rnn.bias_ih_l0 + h @ rnn.weight_hh_l0.t() + rnn.bias_hh_l0
        return (f(sums),)

    return step


def gru_step(gru):
    def step(x, state):
        (h,) = state
        a_r, a_z, a_n = (x @ gru.weight_ih_l0.t() + gru.bias_ih_l0).chunk(3, dim=1)
        b_r, b_z, b_n = (h @ gru.weight_hh_l0.t() + gru.bias_hh_l0).chunk(3, dim=1)
        r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
        return ((1 - z) * torch.tanh(a_n + r * b_n) + z * h,)

    return step


def lstm_step(lstm):
    def step(x, state):
        h, c = state
        sums = x @ lstm.weight_ih_l0.t() + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.t() + lstm.bias_hh_l0
        i, f, g, o = sums.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h if lstm.proj_size == 0 else h @ lstm.weight_hr_l0.t()), c

    return step


FORMS = {
    "tanh": (nn.RNN, {}, rnn_step, 1),
    "relu": (nn.RNN, {"nonlinearity": "relu"}, rnn_step, 1),
    "gru": (nn.GRU, {}, gru_step, 1),
    "lstm": (nn.LSTM, {}, lstm_step, 2),
    "lstm with projection": (nn.LSTM, {"proj_size": 3}, lstm_step, 2),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_a_network_unrolled_by_hand(form, batch_first):
    kind, options, make_step, num_parts = FORMS[form]
    torch.manual_seed(0)
    num_steps, batch, hidden = 17, 3, 6
    layer = kind(5, hidden, batch_first=batch_first, **options)
    width = options.get("proj_size", hidden)
    model = Tagger(layer, width)
    x = torch.randn(num_steps, batch, 5)
    targets = torch.zeros(num_steps, batch)
    shaped = x.transpose(0, 1) if batch_first else x
    record = measure(model, shaped, targets.t() if batch_first else targets, squares)

    twin = copy.deepcopy(model).double()
    start = tuple(torch.zeros(batch, size, dtype=torch.float64) for size in (width, hidden)[:num_parts])
    positions = torch.tensor(record.positions)
    gradients = by_hand(
        make_step(twin.recurrent),
        num_parts,
        x.double(),
        start,
        twin.read,
        lambda outputs: squares(outputs, None)[positions, torch.arange(batch)].sum(),
    )
    joint = torch.cat([torch.stack(part) for part in gradients], dim=2).norm(dim=2)  # (T, B)
    rows = torch.arange(batch)
    for lag in record.lags:
        expected = torch.log10(joint[positions - lag, rows] / joint[positions, rows]).mean().item()
        assert record.log10_gradient[lag] == pytest.approx(expected, abs=4e-7)
    names = ("h", "c")[:num_parts]
    for name, part in zip(names, gradients, strict=True):
        alone = torch.stack(part).norm(dim=2)
        expected = torch.log10(alone[positions - 2, rows] / joint[positions, rows]).mean().item()
        assert record.profile.log10_parts[name][2] == pytest.approx(expected, abs=4e-7)


def test_the_loss_as_a_mean_or_a_sum_gives_the_same_curve():
    torch.manual_seed(0)
    model, x, targets = Tagger(nn.GRU(5, 6), 6), torch.randn(20, 4, 5), torch.randint(4, (20, 4))

    def mean(outputs, targets):
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    def each(outputs, targets):
        return nn.functional.cross_entropy(outputs.permute(1, 2, 0), targets.t(), reduction="none")

    ours, theirs = measure(model, x, targets, mean), measure(model, x, targets, each)
    assert ours.log10_gradient == pytest.approx(theirs.log10_gradient, abs=1e-9)


def test_layers_and_directions_are_told_apart():
    torch.manual_seed(0)
    model = Classifier(nn.LSTM(5, 6, num_layers=2, bidirectional=True, dropout=0.3), 12)
    record = measure(model, torch.randn(12, 3, 5), torch.randint(4, (3,)), nn.CrossEntropyLoss())
    assert set(record.modules) == {f"recurrent.l{layer}{way}" for layer in (0, 1) for way in ("", ".backward")}
    assert not record.profile.backward
    # What is read at the last step is the backward direction's first one: nothing of its past.
    assert len(record.modules["recurrent.l1.backward"].log10_gradient) == 1
    assert len(record.modules["recurrent.l0"].log10_gradient) == 12
    assert set(record.profile.log10_state_gradient) == {"h", "c"}
    assert len(record.profile.log10_state_gradient["c"]) == 12


def test_attention_over_the_outputs_reaches_directly():
    class Attending(Classifier):
        def forward(self, x):
            y, _ = self.recurrent(x)
            weights = torch.softmax(y @ y[:, -1:].transpose(1, 2), dim=1)
            return self.read((weights * y).sum(1))

    plain = tanh_network(0.5)
    attending = Attending(plain.recurrent, 64)
    x, targets = torch.randn(4, 60, 5), torch.randint(4, (4,))
    far = measure(attending, x, targets, nn.CrossEntropyLoss())
    near = measure(plain, x, targets, nn.CrossEntropyLoss())
    assert near.reach < 15 < 50 < far.reach


@pytest.mark.parametrize("name", [info.name for info in cells()])
def test_our_own_layers_with_any_cell(name):
    torch.manual_seed(0)
    model = Tagger(Recurrent(name, 3, 4, num_layers=2), 4)
    record = measure(model, torch.randn(12, 3, 3), torch.zeros(12, 3), squares)
    assert set(record.modules) == {"recurrent.l0", "recurrent.l1"}
    for profile in record.modules.values():
        assert profile.cannot_tell is None
        assert profile.log10_gradient[0] == pytest.approx(0, abs=1e-12)


def test_cells_in_a_loop_of_the_users_own():
    class Loop(nn.Module):
        def __init__(self, cell):
            super().__init__()
            self.cell, self.read = cell, nn.Linear(6, 4)

        def forward(self, x):
            state, outputs = None, []
            for x_t in x:
                state = self.cell(x_t, state)
                outputs.append(self.read(state[0] if isinstance(state, tuple) else state))
            return torch.stack(outputs)

    torch.manual_seed(0)
    x, targets = torch.randn(15, 3, 5), torch.zeros(15, 3)
    for cell, fused in ((nn.LSTMCell(5, 6), nn.LSTM(5, 6)), (nn.GRUCell(5, 6), nn.GRU(5, 6))):
        loop, layer = Loop(cell), Tagger(fused, 6)
        layer.read = loop.read
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                getattr(fused, f"{name}_l0").copy_(parameter)
        ours = measure(loop, x, targets, squares, time_dim=0)
        assert ours.log10_gradient == pytest.approx(measure(layer, x, targets, squares).log10_gradient, abs=1e-9)


def test_a_module_called_once_a_step_is_found():
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(5 + 6, 6)

        def forward(self, x, h):
            return 0.9 * h + 0.1 * torch.tanh(self.mix(torch.cat([x, h], dim=1)))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.leaky, self.read = Leaky(), nn.Linear(6, 4)

        def forward(self, x):
            h = x.new_zeros(x.size(1), 6)
            for x_t in x:
                h = self.leaky(x_t, h)
            return self.read(h)

    torch.manual_seed(0)
    record = measure(Model(), torch.randn(30, 3, 5), torch.randint(4, (3,)), nn.CrossEntropyLoss(), time_dim=0)
    assert record.top == "leaky"
    assert record.kind == record.profile.kind == "state"
    assert 0.85 < record.decay_per_step < 1


def test_packed_sequences_count_from_their_own_ends():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.read = nn.GRU(5, 6), nn.Linear(6, 4)

        def forward(self, x):
            packed = pack_padded_sequence(x, torch.tensor([9, 4, 6]), enforce_sorted=False)
            _, h = self.recurrent(packed)
            return self.read(h[0])

    torch.manual_seed(0)
    record = measure(Packed(), torch.randn(9, 3, 5), torch.randint(4, (3,)), nn.CrossEntropyLoss(), time_dim=0)
    assert len(record.lags) == 4  # of the shortest one


def test_black_boxes_are_measured_by_their_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 4))
    record = measure(model, torch.randn(3, 12, 5), torch.zeros(3, 12), squares, time_dim=1)
    assert record.kind == record.profile.kind == "input"
    assert record.reach_censored
    assert any("no recurrence" in note for note in record.notes)
    shifted = nn.Conv1d(5, 4, 4)  # sees four steps, and no more
    wrapped = Shift(shifted)
    found = measure(wrapped, torch.randn(3, 20, 5), torch.zeros(3, 20), squares, time_dim=1)
    assert found.reach == 3
    assert found.log10_gradient[4:] == (None,) * (len(found.lags) - 4)


class Shift(nn.Module):
    """A causal convolution over (B, T, I)."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, x):
        return self.convolution(nn.functional.pad(x.transpose(1, 2), (3, 0))).transpose(1, 2)


def test_ids_are_measured_at_the_embedding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 5), Shift(nn.Conv1d(5, 4, 4)))
    record = measure(model, torch.randint(7, (3, 20)), torch.zeros(3, 20), squares, time_dim=1)
    assert record.reach == 3


def test_batch_normalisation_is_seen_and_sequences_are_measured_apart():
    class Normed(Classifier):
        def __init__(self, *parts):
            super().__init__(*parts)
            self.norm = nn.BatchNorm1d(5)

        def forward(self, x):
            return super().forward(self.norm(x.transpose(1, 2)).transpose(1, 2))

    torch.manual_seed(0)
    x, targets = torch.randn(4, 20, 5), torch.randint(4, (4,))
    model = Normed(nn.GRU(5, 6, num_layers=2, batch_first=True), 6)
    assert not any("influence" in note for note in measure(model, x, targets, nn.CrossEntropyLoss()).notes)

    class Between(Classifier):
        def __init__(self):
            super().__init__(nn.GRU(5, 6, batch_first=True), 6)
            self.norm = nn.BatchNorm1d(6)

        def forward(self, x):
            y, _ = self.recurrent(x)
            return self.read(self.norm(y[:, -1]))

    record = measure(Between(), x, targets, nn.CrossEntropyLoss())
    assert any("influence one another" in note for note in record.notes)
    assert record.reach is not None


class Breaks(Tagger):
    """Fails after its layer ran."""

    def forward(self, x):
        super().forward(x)
        raise ValueError("out of ideas")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(fails):
    torch.manual_seed(0)
    kind = Breaks if fails else Tagger
    model = kind(nn.LSTM(5, 6, num_layers=2, dropout=0.5), 6)
    model.norm = nn.BatchNorm1d(6)
    model.recurrent.bias_ih_l0.requires_grad_(False)
    model.read.register_forward_hook(lambda *_: None)
    x, targets = torch.randn(12, 3, 5, requires_grad=True), torch.zeros(12, 3)
    (model.read(model.recurrent(x)[0]).sum()).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    random_state, x_grad = torch.get_rng_state(), x.grad.clone()
    if fails:
        with pytest.raises(InputError, match="ValueError: out of ideas"):
            measure(model, x, targets, squares)
    else:
        measure(model, x, targets, squares)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(gradients)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters() if name in gradients)
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(x.grad, x_grad)
    assert torch.get_default_dtype() is torch.float32
    assert model.training


def test_dropout_masks_are_those_of_the_ordinary_pass():
    torch.manual_seed(0)
    model = Tagger(nn.LSTM(5, 6, num_layers=2, dropout=0.5), 6).double()
    x, seen = torch.randn(9, 3, 5, dtype=torch.float64), []

    def loss(outputs, _):
        seen.append(outputs.detach().clone())
        return outputs.square().sum()

    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    measure(model, x, torch.zeros(9, 3), loss)
    torch.testing.assert_close(seen[0], expected)


def test_a_model_whose_code_wants_float32_is_measured_in_float32():
    class Insists(Tagger):
        def forward(self, x):
            return (
                super().forward(x)
                + torch.zeros(4, 4, dtype=torch.float32) @ x.new_ones(4).float() @ torch.ones(4, 4, dtype=x.dtype)
                if x.dtype is torch.float64
                else super().forward(x)
            )

    torch.manual_seed(0)
    record = measure(Insists(nn.GRU(5, 6), 6), torch.randn(12, 3, 5), torch.zeros(12, 3), squares)
    assert record.precision == "float32"
    assert any("measured in float32" in note for note in record.notes)


def test_the_record_comes_back_from_its_file(tmp_path):
    record = measure(tanh_network(0.8), *label_first(30), nn.CrossEntropyLoss())
    record.save(tmp_path / "gradient.json")
    assert GradientRecord.load(tmp_path / "gradient.json").modules == record.modules


def test_what_cannot_be_told_is_said():
    torch.manual_seed(0)
    model, x = Tagger(nn.GRU(5, 6), 6), torch.randn(12, 3, 5)
    record = measure(model, x, torch.zeros(12, 3), lambda outputs, _: torch.zeros(()))
    assert "the loss does not depend on it at lag 0" in record.profile.cannot_tell
    assert "cannot tell" in str(record)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m, x: (m, x[:1]), "have 1 step along axis 0: a lag needs at least 2"),
        (lambda m, x: (m, "text"), "the inputs hold no tensor, but str"),
        (lambda m, x: (m, x[..., :3]), "with I = 5, not of shape"),
        (lambda m, x: (nn.Linear(5, 2), x), "time_dim cannot be guessed: the inputs have shape"),
        (lambda m, x: (m, x * torch.nan), "the loss is not finite"),
        (lambda m, x: (_with_nan(m), x), "weights that are not finite"),
    ],
)
def test_bad_input_gets_one_clear_line(spoil, message):
    torch.manual_seed(0)
    model, x = spoil(Tagger(nn.GRU(5, 6), 6), torch.randn(12, 3, 5))
    with pytest.raises(InputError, match=message) as caught:
        measure(model, x, torch.zeros(12, 3), squares)
    assert "\n" not in str(caught.value)


def _with_nan(model):
    with torch.no_grad():
        model.read.bias[0] = torch.nan
    return model
