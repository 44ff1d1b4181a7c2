"""Which calls of a module go on from one another, against loops by hand, and what is told of those that do not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from throughtime.measurement.gradient import measure

T, B, H = 13, 3, 6


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


def by_hand(steps, outputs, positions):
    """The curve of a loop that handed on `steps`, each a tuple of (B, ...), and returned outputs (T, B, O)."""
    rows = torch.arange(B)
    total = squares(outputs, None)[positions, rows].sum()
    gradients = torch.autograd.grad(total, [part for step in steps for part in step], allow_unused=True)
    flat = [torch.zeros(B, 1) if g is None else g.flatten(1) for g in gradients]
    parts = len(steps[0])
    joint = torch.stack([torch.cat(flat[t : t + parts], 1).norm(dim=1) for t in range(0, len(flat), parts)])
    lags = range(int(positions.min()) + 1)
    return [torch.log10(joint[positions - lag, rows] / joint[positions, rows]).mean().item() for lag in lags]


class Between(nn.Module):
    """A cell whose state is normalised, and partly dropped, between two steps."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.norm, self.read = cell, nn.LayerNorm(H), nn.Linear(H, 4)

    def forward(self, x):
        return self.run(x)[1]

    def run(self, x):
        state, steps, outputs = (), [], []
        for x_t in x:
            given = self.changed(state)
            after = self.cell(x_t, given[0] if len(given) == 1 else given or None)
            state = tuple(part.clone() for part in (after if isinstance(after, tuple) else (after,)))
            steps.append(state)
            outputs.append(self.read(self.norm(state[0])))
        return steps, torch.stack(outputs)

    def changed(self, state):
        return tuple(self.norm(part) if index == 0 else part * 0.9 for index, part in enumerate(state))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_state_that_is_changed_between_two_steps_goes_on(kind):
    torch.manual_seed(0)
    model, x = Between(kind(5, H)), torch.randn(T, B, 5)
    record = measure(model, x, torch.zeros(T, B), squares, time_dim=0)
    steps, outputs = copy.deepcopy(model).double().run(x.double())
    assert record.log10_gradient == pytest.approx(by_hand(steps, outputs, torch.tensor(record.positions)), abs=1e-9)
    assert record.profile.notes == ()


class Stepwise(nn.Module):
    """A layer of two, called with one step at a time, its states normalised in between."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.norm, self.read = layer, nn.LayerNorm(H), nn.Linear(H, 4)

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            y, (h, c) = self.layer(x_t.unsqueeze(0), state)
            state = (self.norm(h), c)
            outputs.append(self.read(y[0]))
        return torch.stack(outputs)


class TwoCells(Stepwise):
    """The same in cells."""

    def forward(self, x):
        first, second = self.layer
        below, above, outputs = None, None, []
        for x_t in x:
            h, c = first(x_t, below)
            g, d = second(h, above)
            below, above = (self.norm(h), c), (self.norm(g), d)
            outputs.append(self.read(g))
        return torch.stack(outputs)


def test_a_layer_that_is_called_step_by_step_is_its_cells():
    torch.manual_seed(0)
    layer, x = nn.LSTM(5, H, 2), torch.randn(T, B, 5)
    cells = nn.ModuleList([nn.LSTMCell(5, H), nn.LSTMCell(H, H)])
    with torch.no_grad():
        for index, cell in enumerate(cells):
            for name, weight in cell.named_parameters():
                weight.copy_(getattr(layer, f"{name}_l{index}"))
    one, other = Stepwise(layer), TwoCells(cells)
    other.read = one.read
    found = measure(one, x, torch.zeros(T, B), squares)
    expected = measure(other, x, torch.zeros(T, B), squares, time_dim=0)
    for index in (0, 1):
        curve = expected.modules[f"layer.{index}"].log10_gradient
        assert len(curve) > 9
        assert found.modules[f"layer.l{index}"].log10_gradient == pytest.approx(curve, abs=1e-9)
    assert not any("anew" in str(each) for each in (found, expected))


def test_one_cell_for_two_layers_is_two_recurrences():
    class Shared(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second, self.read = first, second, nn.Linear(H, 4)

        def forward(self, x):
            h = g = x.new_zeros(B, H)
            outputs = []
            for x_t in x:
                h = self.first(x_t, h)
                g = self.second(h, g)
                outputs.append(self.read(g))
            return torch.stack(outputs)

    torch.manual_seed(0)
    cell, x = nn.GRUCell(H, H), torch.randn(T, B, H)
    shared, apart = Shared(cell, cell), Shared(cell, copy.deepcopy(cell))
    apart.read = shared.read
    found = measure(shared, x, torch.zeros(T, B), squares, time_dim=0)
    expected = measure(apart, x, torch.zeros(T, B), squares, time_dim=0)
    assert found.profile.log10_gradient == pytest.approx(expected.modules["first"].log10_gradient, abs=1e-12)
    assert found.profile.notes == ("called anew 2 times: the longest run was measured",)


class Masked(Between):
    """Padding leaves the state as it was."""

    def run(self, x):
        h, outputs = x.new_zeros(B, H), []
        for t, x_t in enumerate(x):
            keep = torch.tensor([[float(t < 9)]] * B).to(x)
            h = keep * self.cell(x_t, h) + (1 - keep) * h
            outputs.append(self.read(h))
        return None, torch.stack(outputs)


class Cut(Between):
    """Nothing is left of the way from one step to the next."""

    def changed(self, state):
        return tuple(0.5 * part.detach() for part in state)


class Untracked(Between):
    def run(self, x):
        with torch.no_grad():
            return super().run(x)


class Folded(nn.Module):
    """Two series for each sequence, in one axis with the sequences."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.read = cell, nn.Linear(H, 4)

    def forward(self, x):
        h, outputs = None, []
        for x_t in x:
            h = self.cell(torch.cat([x_t, -x_t]), h)
            outputs.append(self.read(h)[:B])
        return torch.stack(outputs)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Masked, "its state is mixed with an older one"),
        (Cut, "none of its 13 calls goes on from the state of another"),
        (Untracked, "it runs without gradients"),
        (Folded, "its states have 6 rows, and there are 3 sequences"),
    ],
)
def test_where_states_are_not_what_is_handed_on_nothing_is_told(kind, reason):
    torch.manual_seed(0)
    record = measure(kind(nn.GRUCell(5, H)), torch.randn(T, B, 5), torch.zeros(T, B), squares, time_dim=0)
    assert reason in record.profile.cannot_tell
    assert record.reach is None
    assert record.log10_gradient == ()


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.gru, self.read, self.reentrant = nn.GRU(5, H), nn.Linear(H, 4), reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.read(self.gru(x)[0])
        return self.read(checkpoint(lambda x: self.gru(x)[0], x, use_reentrant=self.reentrant))


def test_a_layer_that_a_checkpoint_runs_again_is_measured_once():
    torch.manual_seed(0)
    model, x = Checkpointed(None), torch.randn(T, B, 5, requires_grad=True)
    expected = measure(model, x, torch.zeros(T, B), squares)
    model.reentrant = False
    assert measure(model, x, torch.zeros(T, B), squares) == expected


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_checkpoint_that_hides_the_graph_is_named():
    record = measure(Checkpointed(True), torch.randn(T, B, 5), torch.zeros(T, B), squares)
    assert "use_reentrant=False" in record.profile.cannot_tell
