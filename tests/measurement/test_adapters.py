"""A fused recurrence of another library, measured through a stand-in, against the same thing unrolled by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime import register_adapter
from throughtime.errors import InputError, RecipeError
from throughtime.measurement.gradient import measure
from throughtime.measurement.spectra import spectrum


class FusedLSTM(nn.Module):
    """As a library might have it: batch first, gates in the order o, f, i, g, one matrix, no state in the graph."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(0.4 * torch.randn(4 * size, 2 * size))
        self.bias = nn.Parameter(0.1 * torch.randn(4 * size))

    def steps(self, x):
        h = c = x.new_zeros(x.size(0), self.size)
        for x_t in x.unbind(1):
            o, f, i, g = (torch.cat([x_t, h], 1) @ self.weight.t() + self.bias).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h, c = (o.sigmoid() * c.tanh()).clone(), c.clone()  # independent variables: h does not read this c
            yield h, c

    def forward(self, x):
        with torch.no_grad():
            return torch.stack([h for h, _ in self.steps(x)], dim=1)


class StandIn(nn.Module):
    """The same by torch's LSTM, whose gates come as i, f, g, o."""

    order = (2, 1, 3, 0)

    def __init__(self, fused):
        super().__init__()
        self.lstm = nn.LSTM(fused.size, fused.size, batch_first=True)
        blocks, biases = fused.weight.detach().chunk(4), fused.bias.detach().chunk(4)
        with torch.no_grad():
            by_input, by_state = torch.cat([blocks[k] for k in self.order]).chunk(2, dim=1)
            self.lstm.weight_ih_l0.copy_(by_input)
            self.lstm.weight_hh_l0.copy_(by_state)
            self.lstm.bias_ih_l0.copy_(torch.cat([biases[k] for k in self.order]))
            self.lstm.bias_hh_l0.zero_()

    def forward(self, x):
        return self.lstm(x)[0]


class Wrong(StandIn):
    order = (1, 2, 3, 0)


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(FusedLSTM(6), nn.Linear(6, 4))


def test_an_adapted_module_equals_itself_unrolled_by_hand(model):
    register_adapter(FusedLSTM, StandIn)
    x, before = torch.randn(3, 17, 6), [p.clone() for p in model.parameters()]
    record = measure(model, x, torch.zeros(3, 17), squares, time_dim=1)
    assert record.top == "0.lstm"
    assert record.profile.kind == "state"

    fused, read = model.double()
    states = list(fused.steps(x.double()))
    positions, rows = torch.tensor(record.positions), torch.arange(3)
    total = squares(read(torch.stack([h for h, _ in states], dim=1)), None)[rows, positions].sum()
    flat = [part for step in states for part in step]
    gradients = torch.autograd.grad(total, flat, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, flat, strict=True)]
    joint = torch.stack([torch.cat(gradients[t : t + 2], dim=1).norm(dim=1) for t in range(0, 34, 2)])
    for lag in record.lags:
        expected = torch.log10(joint[positions - lag, rows] / joint[positions, rows]).mean().item()
        assert record.log10_gradient[lag] == pytest.approx(expected, abs=4e-7)
    assert all(map(torch.equal, model.float().parameters(), before))
    assert type(model[0]) is FusedLSTM


def test_an_adapted_module_has_a_spectrum(model):
    register_adapter(FusedLSTM, StandIn)
    x = torch.randn(2, 30, 6)
    found, expected = spectrum(model, x, k=2), spectrum(StandIn(model[0]), x, k=2)
    assert found.layers["0.lstm.l0"].exponents == expected.layers["lstm.l0"].exponents


def test_a_stand_in_with_other_numbers_is_refused(model):
    register_adapter(FusedLSTM, Wrong)
    with pytest.raises(InputError, match=r"the adapter for FusedLSTM \(0\) gives other numbers than the module"):
        measure(model, torch.randn(3, 10, 6), time_dim=1)
    register_adapter(FusedLSTM, lambda fused: nn.Linear(6, 5))
    with pytest.raises(InputError, match="gives outputs of shapes"):
        measure(model, torch.randn(3, 10, 6), time_dim=1)
    register_adapter(FusedLSTM, lambda fused: fused.size)
    with pytest.raises(InputError, match=r"gives int: expected a torch\.nn\.Module"):
        measure(model, torch.randn(3, 10, 6), time_dim=1)


def test_a_subclass_with_equations_of_its_own_needs_its_own_adapter(model):
    class Doubled(FusedLSTM):
        def forward(self, x):
            return 2 * super().forward(x)

    register_adapter(FusedLSTM, StandIn)
    record = measure(nn.Sequential(Doubled(6)), torch.randn(3, 10, 6), time_dim=1)
    assert record.profile.kind == "input"


def test_what_is_no_type_and_no_function_is_refused():
    with pytest.raises(RecipeError, match=r"takes a type of torch\.nn\.Module"):
        register_adapter(int, StandIn)
    with pytest.raises(RecipeError, match="must be callable"):
        register_adapter(FusedLSTM, None)
