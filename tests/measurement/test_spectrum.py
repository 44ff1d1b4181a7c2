import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn.utils.rnn import pack_sequence

from measurement.running_out import ways_to_run_out
from throughtime.cell import Cell, cells
from throughtime.errors import InputError, RecipeError
from throughtime.layer import Recurrent
from throughtime.measurement.spectra import SpectrumRecord, spectrum


class Linear(Cell):
    """h_t = A h_{t-1} + x_t."""

    state_names = ("h",)

    def __init__(self, matrix):
        super().__init__(len(matrix), len(matrix))
        self.register_buffer("matrix", matrix)

    def reset_parameters(self):
        """There are none."""

    def project(self, x):
        return x

    def step(self, projected, state):
        h = projected + state[0] @ self.matrix.t()
        return (h,), h


class Classifier(nn.Module):
    """A batch-normalised, dropped-out reader of the last step, with an embedding and a counter of its own."""

    def __init__(self, recurrence):
        super().__init__()
        self.embedding = nn.Embedding(10, 3)
        self.recurrence = recurrence
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.last, self.history, self.calls = None, [], 0

    def forward(self, ids, fail=False):
        y, self.last = self.recurrence(self.embedding(ids))
        self.calls += 1
        self.history.append(torch.rand(1).item() + random.random() + np.random.rand())
        self.norm(y[:, -1])
        if fail:
            self.eval()
            raise KeyError("of the user's own")
        return self.head(nn.functional.dropout(y[:, -1], 0.5, self.training))


class Loop(nn.Module):
    """A cell, or a fused module, in the model's own loop over time."""

    def __init__(self, recurrence):
        super().__init__()
        self.recurrence = recurrence

    def forward(self, x):
        state = None
        for x_t in x:
            if isinstance(self.recurrence, nn.RNNCellBase):
                state = self.recurrence(x_t, state)
            else:
                state = self.recurrence(x_t.unsqueeze(0), state)[1]
        return state


def only(record):
    (layer,) = record.layers.values()
    return layer


def log10_product(module, x, state, index, row):
    """Log10 singular values of d final state / d first state of one cell and sequence, by torch's own module."""
    sizes = [part.size(2) for part in state]

    def run(start):
        parts = [part.clone() for part in state]
        for part, piece in zip(parts, start.split(sizes), strict=True):
            part[index, row] = piece
        final = module(x, tuple(parts) if len(parts) == 2 else parts[0])[1]
        final = final if isinstance(final, tuple) else (final,)
        return torch.cat([part[index, row] for part in final])

    product = jacobian(run, torch.cat([part[index, row] for part in state]))
    return torch.linalg.svdvals(product).log10().tolist()


FORMS = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    (nn.RNN, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    (nn.GRU, {}),
    (nn.GRU, {"num_layers": 2, "bias": False, "dropout": 0.5}),
    (nn.GRU, {"bidirectional": True}),
    (nn.LSTM, {}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("kind", "choices"), FORMS, ids=str)
def test_the_long_product_is_that_of_every_torch_module(kind, choices, ragged):
    module = kind(3, 4, **choices).double().eval()
    directions = 2 if module.bidirectional else 1
    shape = (module.num_layers * directions, 2)
    state = [torch.randn(*shape, module.proj_size or 4, dtype=torch.float64)]
    state += [torch.randn(*shape, 4, dtype=torch.float64)] if kind is nn.LSTM else []
    steps = 4
    x = torch.randn(2, steps, 3, dtype=torch.float64)
    if ragged:
        x = pack_sequence([x[0, :2], x[1]], enforce_sorted=False)
    elif not module.batch_first:
        x = x.transpose(0, 1)
    given = tuple(state) if kind is nn.LSTM else state[0]
    record = spectrum(module, (x, given))
    assert len(record.layers) == shape[0]
    for index, layer in enumerate(record.layers.values()):
        assert (layer.layer, layer.backward) == (index // directions, directions == 2 and index % 2 == 1)
        assert (layer.num_steps, layer.num_sequences, layer.num_calls) == (steps, 2, 1)
        for row in range(2):
            for got, expected in zip(
                layer.log10_singular_values[row], log10_product(module, x, state, index, row), strict=True
            ):
                if got is None:  # a direction that ReLU cut off
                    assert expected < -14
                else:  # the reference, an SVD of the product, has a rounding error of about 1e-16 of the largest
                    assert got == pytest.approx(expected, abs=max(1e-6, 10 ** (-15 - expected)))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_all_exponents_add_up_to_the_mean_log_determinant(kind):
    module = kind(3, 4).double()
    x = torch.randn(20, 1, 3, dtype=torch.float64)
    state, determinants = torch.zeros(8 if kind is nn.LSTM else 4, dtype=torch.float64), []

    def step(state, t):
        parts = state.view(-1, 1, 1, 4)
        final = module(x[[t]], tuple(parts) if kind is nn.LSTM else parts[0])[1]
        return torch.cat(final, dim=2).flatten() if kind is nn.LSTM else final.flatten()

    for t in range(20):
        determinants.append(torch.linalg.slogdet(jacobian(lambda h, t=t: step(h, t), state)).logabsdet.item())
        state = step(state, t).detach()
    layer = only(spectrum(module, x))
    assert layer.warm_up == 0.2
    assert sum(layer.exponents) == pytest.approx(np.mean(determinants[4:]), abs=1e-10)


def test_a_diagonal_linear_cell_is_exact_far_beyond_the_range_of_numbers():
    factors = torch.tensor([0.9, 1.05, 0.5, 0.1], dtype=torch.float64)
    layer = only(spectrum(Recurrent(Linear(torch.diag(factors)), 4, 4).double(), 0.1 * torch.randn(600, 2, 4).double()))
    logs = factors.log10().sort(descending=True).values
    for row in layer.log10_singular_values:
        assert row == pytest.approx((600 * logs).tolist(), abs=1e-8)
    assert layer.exponents == pytest.approx((logs * math.log(10)).tolist(), abs=1e-9)
    assert max(layer.exponent_errors) < 1e-8
    assert layer.growth_per_step == pytest.approx(1.05)
    for quartile in layer.step_singular_values:
        assert quartile == pytest.approx(sorted(factors.tolist(), reverse=True))
    assert layer.step_mean_square == pytest.approx(factors.square().mean().item())


@pytest.mark.parametrize("k", [5, 2])
def test_a_non_normal_linear_cell_has_the_singular_values_of_the_power(k):
    matrix = torch.diag(torch.linspace(0.5, 0.9, 5)).double() + torch.triu(torch.ones(5, 5).double(), 1)
    for steps in (2, 6, 12):
        x = torch.zeros(steps, 1, 5).double()
        layer = only(spectrum(Recurrent(Linear(matrix), 5, 5).double(), x, k))
        expected = torch.linalg.svdvals(torch.linalg.matrix_power(matrix, steps)).log10()[:k]
        assert layer.log10_singular_values[0] == pytest.approx(expected.tolist(), abs=1e-6)
    # In the long run the eigenvalues alone count, whatever the matrix did in between.
    long = only(spectrum(Recurrent(Linear(matrix), 5, 5).double(), torch.zeros(800, 1, 5).double(), k))
    expected = [math.log(value) for value in (0.9, 0.8, 0.7, 0.6, 0.5)]
    assert long.exponents == pytest.approx(expected[:k], abs=1e-6)


def random_network(gain, seed, size=100):
    torch.manual_seed(seed)
    module = nn.RNN(3, size)
    with torch.no_grad():
        for weight, deviation in zip(module.parameters(), (0.1, gain / size**0.5, 0, 0), strict=True):
            weight.normal_(std=deviation) if deviation else weight.zero_()
    return module


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gain", "sign"), [(0.8, -1), (2.5, 1)])
def test_a_random_network_is_stable_below_gain_one_and_chaotic_far_above(gain, sign, seed):
    layer = only(spectrum(random_network(gain, seed), torch.randn(100, 3, 3), k=2))
    assert sign * layer.exponents[0] > 3 * layer.exponent_errors[0]
    assert (layer.growth_per_step > 1) == (sign > 0)
    assert layer.spectral_radius["h"] == pytest.approx(gain, rel=0.15)
    # Mean squares of J are g^2 <(1 - h^2)^2>: below the gain, and close to it where the units stay near 0.
    assert layer.step_mean_square < gain**2
    assert (sum(layer.saturation["h"]) > 0.1) == (sign > 0)


def test_doubling_the_length_changes_an_estimate_by_less_than_its_error():
    # The error is the half-width of a 95 % interval; the longer half of the data is independent of the shorter one.
    exceeded = []
    for gain in (0.8, 2.5):
        for seed in range(3):
            module, x = random_network(gain, seed, size=40), torch.randn(240, 4, 3)
            short, long = only(spectrum(module, x[:120], k=6)), only(spectrum(module, x, k=6))
            changes = [abs(a - b) for a, b in zip(short.exponents, long.exponents, strict=True)]
            exceeded += [change > error for change, error in zip(changes, short.exponent_errors, strict=True)]
    assert sum(exceeded) <= 0.05 * len(exceeded)


@pytest.mark.parametrize("bias", [-3.0, 5.0])
def test_the_forget_gate_of_an_lstm_sets_its_leading_exponent(bias):
    module = nn.LSTM(2, 6)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.weight_ih_l0.zero_()
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
        module.bias_ih_l0[6:12] = bias
    layer = only(spectrum(module, torch.randn(30, 2, 2), k=8))
    forget = 1 / (1 + math.exp(-bias))
    assert layer.exponents[:6] == pytest.approx([math.log(forget)] * 6)
    assert layer.exponents[6:] == (None, None)  # h alone carries nothing
    shut, open_ = layer.saturation["f"]
    # sigmoid(-3) = 0.047 still has a slope of 0.045, above a tenth of 1/4; sigmoid(5) = 0.993 does not.
    assert (shut, open_) == (0.0, float(bias > 0))
    assert layer.stuck == {"i": 0.0, "f": float(bias > 0), "o": 0.0, "g": 0.0, "tanh(c)": 0.0}


def test_dead_units_are_seen():
    module = nn.RNN(2, 4, nonlinearity="relu")
    with torch.no_grad():
        module.bias_ih_l0.copy_(torch.tensor([-100.0, -100.0, 100.0, 100.0]))
        module.weight_hh_l0.copy_(0.5 * torch.eye(4))
    layer = only(spectrum(module, torch.randn(10, 2, 2)))
    assert layer.saturation["h"] == (0.5, 0.0)
    assert layer.stuck["h"] == 0.5
    assert layer.exponents == (pytest.approx(math.log(0.5)), pytest.approx(math.log(0.5)), None, None)
    module.weight_hh_l0.data.zero_()
    assert "every change of the state is wiped out" in str(spectrum(module, torch.randn(10, 2, 2)))


def test_saturation_is_told_step_by_step():
    module = nn.RNN(1, 3)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
        module.weight_ih_l0.copy_(torch.tensor([[1.0], [1.0], [-1.0]]))
    x = torch.tensor([0.0, 9.0, -9.0, 0.1]).view(4, 1, 1).repeat(1, 2, 1)
    layer = only(spectrum(module, x))
    third = pytest.approx(1 / 3), pytest.approx(2 / 3)
    assert layer.saturation_by_step == {"h": ((0.0, 0.0), third, third[::-1], (0.0, 0.0))}
    whole = only(spectrum(nn.LSTM(3, 5), 4 * torch.randn(9, 4, 3)))
    for unit, shares in whole.saturation_by_step.items():
        assert torch.tensor(shares).mean(0).tolist() == pytest.approx(whole.saturation[unit], abs=1e-6)


def test_saturation_by_step_counts_only_sequences_that_have_not_ended():
    module = nn.RNN(1, 2, nonlinearity="relu")
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.bias_ih_l0.zero_()
        module.bias_hh_l0.zero_()
        module.weight_ih_l0.fill_(1.0)
    on, off = torch.ones(4, 1), -torch.ones(2, 1)
    layer = only(spectrum(module, pack_sequence([on, off])))
    assert layer.saturation_by_step["h"] == ((0.5, 0.0), (0.5, 0.0), (0.0, 0.0), (0.0, 0.0))
    assert layer.saturation["h"] == (pytest.approx(2 / 6), 0.0)


@pytest.mark.parametrize(("scale", "seed"), [(300, 1), (1000, 3), (3000, 1)])
def test_weights_that_have_blown_up_have_a_spectrum_too(scale, seed):
    torch.manual_seed(seed)
    module = nn.GRU(3, 12)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    layer = only(spectrum(module, torch.randn(12, 4, 3)))
    assert layer.cannot_tell is None
    assert all(value is None or math.isfinite(value) for row in layer.log10_singular_values for value in row)
    assert all(value is None or math.isfinite(value) for value in layer.exponents)
    assert min(sum(layer.saturation["r"]), sum(layer.saturation["n"])) > 0.9


@pytest.mark.parametrize("module", [nn.RNN(2, 4), nn.RNN(2, 4, nonlinearity="relu"), nn.GRU(2, 4), nn.LSTM(2, 4)])
def test_functions_and_the_mean_size_of_what_they_give(module):
    x = torch.randn(10, 3, 2)
    layer = only(spectrum(module, x))
    gates = {"RNN": "h", "GRU": "rzn", "LSTM": "ifgo"}[type(module).__name__]
    of_state = "relu" if getattr(module, "nonlinearity", "tanh") == "relu" else "tanh"
    expected = {gate: of_state if gate in "hng" else "sigmoid" for gate in gates}
    assert {gate: layer.functions[gate] for gate in gates} == expected
    assert set(layer.means) == set(layer.functions) == set(layer.saturation) == set(layer.stuck)
    if isinstance(module, nn.RNN):
        assert layer.means["h"] == pytest.approx(module(x)[0].abs().mean().item(), rel=1e-5)
    assert all(0.3 < layer.means[gate] < 0.7 for gate in gates if expected[gate] == "sigmoid")


@pytest.mark.parametrize("name", [info.name for info in cells()])
def test_every_cell_has_a_spectrum_in_both_directions(name):
    layer = Recurrent(name, 3, 4, num_layers=2, bidirectional=True)
    record = spectrum(layer, torch.randn(6, 2, 3), k=2)
    assert list(record.layers) == [f"Recurrent.l{n}{way}" for n in range(2) for way in ("", ".backward")]
    for spectral in record.layers.values():
        assert spectral.cannot_tell is None
        assert len(spectral.exponents) == 2
        assert spectral.exponents[0] is not None or name in ("elman-relu", "indrnn")  # few units, and all may be off


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batched", [True, False])
def test_a_loop_of_the_models_own_equals_the_fused_module(kind, batched):
    fused_kind = getattr(nn, kind.__name__.removesuffix("Cell"))
    fused, recurrence = fused_kind(3, 4), kind(3, 4)
    with torch.no_grad():
        for own, weight in zip(recurrence.parameters(), fused.parameters(), strict=True):
            own.copy_(weight)
    x = torch.randn(9, 2, 3) if batched else torch.randn(9, 3)
    looped = only(spectrum(Loop(recurrence), x))
    assert (looped.module, looped.num_steps, looped.num_calls) == ("recurrence", 9, 1)
    assert looped.exponents == pytest.approx(only(spectrum(fused, x)).exponents, abs=1e-12)


def test_a_module_called_twice_is_measured_in_its_first_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.GRU(3, 4)

        def forward(self, x, other):
            return self.shared(x)[0].sum() + self.shared(other)[0].sum()

    model, x = Twice(), torch.randn(8, 2, 3)
    layer = only(spectrum(model, {"x": x, "other": torch.randn(5, 2, 3)}))
    assert (layer.num_calls, layer.num_steps) == (2, 8)
    assert layer.exponents == only(spectrum(model.shared, x)).exponents


def test_a_reset_ends_what_is_measured_and_a_length_too():
    layer, x = Recurrent("gru", 3, 4, bidirectional=True), torch.randn(9, 2, 3)
    reset = torch.zeros(9, 2, dtype=torch.bool)
    reset[5, :] = True
    forward, backward = spectrum(layer, {"x": x, "reset": reset}).layers.values()
    assert (forward.num_steps, backward.num_steps) == (5, 4)
    assert forward.exponents == next(iter(spectrum(layer, x[:5]).layers.values())).exponents
    assert backward.exponents == list(spectrum(layer, x[5:]).layers.values())[1].exponents
    ragged = spectrum(layer, {"x": x, "lengths": [1, 6]}).layers["Recurrent.l0"]
    assert (ragged.num_sequences, ragged.num_steps) == (1, 6)
    assert ragged.exponents == spectrum(layer, x[:6, [1]]).layers["Recurrent.l0"].exponents


def test_the_sequences_are_drawn_by_the_seed():
    module, x = nn.GRU(3, 4), torch.randn(6, 20, 3)
    records = [only(spectrum(module, x, num_sequences=3, seed=seed)) for seed in (0, 0, 1)]
    assert records[0] == records[1]
    assert records[0].exponents != records[2].exponents
    assert records[0].num_sequences == len(records[0].log10_singular_values) == 3


def snapshot(model):
    """All that must be as before, in values that compare bit for bit."""
    tensors = {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}
    gradients = {name: None if p.grad is None else p.grad.numpy().tobytes() for name, p in model.named_parameters()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {name: (module.training, len(module._forward_hooks)) for name, module in model.named_modules()}
    own = {name: getattr(model, name, None) for name in ("last", "calls")} | {
        "history": list(getattr(model, "history", []))
    }
    randomness = (torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes())
    return tensors, gradients, flags, modes, own, randomness, torch.get_default_dtype()


ZOO = {
    "lstm": lambda: nn.LSTM(3, 4, batch_first=True),
    "two layers": lambda: nn.GRU(3, 2, 2, bidirectional=True, dropout=0.5, batch_first=True),
    "recurrent": lambda: Recurrent("lstm", 3, 4, batch_first=True),
    "orthogonal": lambda: Recurrent("orthogonal", 3, 4, batch_first=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.RNN(3, 4, batch_first=True), "weight_hh_l0"),
}


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("member", ZOO)
def test_the_model_is_left_as_found(member, training, fail):
    model = Classifier(ZOO[member]()).train(training)
    ids = torch.randint(10, (3, 5))
    model(ids).sum().backward()
    model.head.weight.requires_grad_(False)
    model.head.register_forward_hook(lambda *_: None)
    before = snapshot(model)
    if fail:
        with pytest.raises(InputError, match=r"the model fails .*KeyError: .of the user's own"):
            spectrum(model, (ids, True), k=2)
    else:
        assert spectrum(model, ids, k=2).layers["recurrence.l0"].cannot_tell is None
    assert snapshot(model) == before


def test_a_compiled_model_is_measured_as_what_it_compiles():
    model, x = nn.GRU(3, 4), torch.randn(6, 2, 3)
    assert only(spectrum(torch.compile(model, backend="eager"), x)) == only(spectrum(model, x))


def test_inference_tensors_and_low_precision_are_no_obstacle():
    with torch.inference_mode():
        x = torch.randn(6, 2, 3)
        inside = only(spectrum(Recurrent("lem", 3, 4), x))
    assert inside.exponents[0] is not None
    model = nn.GRU(3, 4)
    exact = only(spectrum(model, x)).exponents
    assert only(spectrum(model.bfloat16(), x.bfloat16())).exponents == pytest.approx(exact, abs=0.1)


def test_a_record_comes_back_and_can_be_read(tmp_path):
    record = spectrum(nn.LSTM(3, 4, 2), torch.randn(60, 8, 3), k=3)
    record.save(tmp_path / "spectrum.json")
    loaded = SpectrumRecord.load(tmp_path / "spectrum.json")
    assert loaded == record
    assert loaded.layers == record.layers
    first, second = str(record).splitlines()
    assert first.startswith("LSTM layer 0 (LSTM): leading exponent -0.")
    assert "fades" in first
    assert "saturated low/high: i 0%/0%" in second


@pytest.mark.parametrize(
    ("model", "inputs", "line"),
    [
        (nn.Linear(3, 4), torch.zeros(5, 3), "no recurrence was found in Linear"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 7), "the model fails on these inputs"),
        (nn.GRU(3, 4), torch.zeros(5, 2, 3, dtype=torch.long), "the model fails on these inputs"),
        (nn.GRU(3, 4), torch.zeros(1, 2, 3), "at least 2 steps, and GRU saw fewer: are the axes right"),
        (nn.GRUCell(3, 4), torch.zeros(2, 3), "at least 2 steps, and GRUCell saw fewer"),
        (Recurrent("gru", 3, 4), torch.zeros(5, 0, 3), "Recurrent was given 0 sequences of 5 steps"),
        (Recurrent("gru", 3, 4), torch.zeros(0, 2, 3), "Recurrent was given 2 sequences of 0 steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_input_is_named(model, inputs, line):
    with pytest.raises(InputError, match=line):
        spectrum(model, inputs)


def test_a_recurrence_that_is_not_reached_is_named():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.GRU(3, 4)

        def forward(self, x):
            return x

    with pytest.raises(InputError, match="called none of its recurrences: idle"):
        spectrum(Idle(), torch.zeros(3, 2, 3))


def test_a_subclass_with_equations_of_its_own_is_not_mistaken_for_its_ancestor():
    class Other(nn.GRU):
        def forward(self, x, hx=None):
            y, h = super().forward(x, hx)
            return 2 * y, 2 * h

    with pytest.raises(InputError, match="no recurrence was found in Other"):
        spectrum(Other(3, 4), torch.zeros(3, 2, 3))


def test_numbers_out_of_range_are_named():
    with pytest.raises(RecipeError, match="k must be at least 1, not 0"):
        spectrum(nn.GRU(3, 4), torch.zeros(3, 2, 3), k=0)
    with pytest.raises(RecipeError, match="num_sequences must be at least 1, not 0"):
        spectrum(nn.GRU(3, 4), torch.zeros(3, 2, 3), num_sequences=0)


def test_nan_gives_no_number():
    model = Classifier(nn.GRU(3, 4, batch_first=True))
    model.recurrence.weight_hh_l0.data[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"weights that are not finite \(recurrence.weight_hh_l0\)"):
        spectrum(model, torch.randint(10, (3, 5)))
    x = torch.randn(8, 2, 3)
    x[4, 1] = torch.nan
    layer = only(spectrum(nn.GRU(3, 4), x))
    assert layer.cannot_tell == "the state is not finite from step 5 on"
    assert (layer.exponents, layer.growth_per_step) == ((), None)
    assert "cannot tell, since the state is not finite" in str(layer)


def test_a_state_that_overflows_gives_no_number(tmp_path):
    layer = Recurrent(Linear(torch.diag(torch.tensor([1e30, 1.0]))), 2, 2)
    record = spectrum(layer, torch.ones(20, 1, 2))
    assert only(record).cannot_tell == "the state is not finite from step 12 on"
    record.save(tmp_path / "spectrum.json")


def test_a_cell_that_needs_float32_is_named():
    class Single(Linear):
        def step(self, projected, state):
            h = state[0] @ self.matrix.float() + projected.float()
            return (h,), h

    with pytest.raises(InputError, match=r"the step of Single does not run in torch\.float64"):
        spectrum(Recurrent(Single(torch.eye(3)), 3, 3), torch.zeros(4, 2, 3))


def test_without_singular_values_all_else_is_the_same():
    module, x = nn.LSTM(3, 5, num_layers=2), torch.randn(20, 4, 3)
    whole, less = spectrum(module, x, k=3), spectrum(module, x, k=3, singular_values=False)
    empty = {
        "log10_singular_values": (),
        "log10_singular_value_change": 0.0,
        "step_singular_values": (),
        "step_mean_square": None,
        "num_jacobians": 0,
    }
    assert less.values == {name: values | empty for name, values in whole.values.items()}
    steps = spectrum(module, x, k=3, singular_values="steps")
    empty = {"log10_singular_values": (), "log10_singular_value_change": 0.0}
    assert steps.values == {name: values | empty for name, values in whole.values.items()}
    assert whole.values["LSTM.l0"]["num_jacobians"] > 0


class Hungry(nn.Module):
    """Runs out of memory with more than so many sequences, time first."""

    def __init__(self, most, run_out):
        super().__init__()
        self.rnn, self.most, self.run_out = nn.GRU(3, 4), most, run_out

    def forward(self, x):
        if x.size(1) > self.most:
            self.run_out()
        return self.rnn(x)[0]


@ways_to_run_out
def test_a_smaller_batch_where_memory_runs_out(run_out):
    torch.manual_seed(0)
    x = torch.randn(15, 40, 3)
    record = spectrum(Hungry(5, run_out), x, k=2)
    assert record.layers["rnn.l0"].num_sequences == 4
    assert record.notes == ("out of memory with 8 sequences: 4 were measured",)
    assert "out of memory" in str(record)
    assert spectrum(Hungry(40, run_out), x, k=2).notes == ()
    enough = spectrum(Hungry(39, run_out), x, k=2)
    assert enough.notes == ("out of memory with 40 sequences: 8 were measured",)
    with pytest.raises(InputError, match="out of memory with 1 sequences of 15 steps: hand over shorter or fewer"):
        spectrum(Hungry(0, run_out), x[:, :3], k=2)


def test_out_of_memory_where_it_is_not_known_what_holds_the_sequences():
    class Loops(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x):
            raise MemoryError

    with pytest.raises(InputError, match="out of memory, and not known where to cut"):
        spectrum(Loops(), torch.randn(15, 40, 3))
