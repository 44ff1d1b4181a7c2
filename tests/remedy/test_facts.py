"""What is found out about a patient, recurrences written by hand included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from throughtime import Recurrent
from throughtime.diagnosis import Diagnosis
from throughtime.remedy import PatientEvidence, TreatmentPlan, facts_of, remedy


class ByHand(nn.Module):
    """A cell stepped in a loop, and a readout of each step."""

    def __init__(self, cell: nn.Module, hidden: int = 8) -> None:
        super().__init__()
        self.hidden, self.cell = hidden, cell
        self.out = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, ys = x.new_zeros(len(x), self.hidden), []
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
            ys.append(self.out(h))
        return torch.stack(ys, 1)


class Tanh(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wx, self.wh = nn.Linear(3, 8), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.wx(x) + self.wh(h))


class Gated(nn.Module):
    """It keeps its state where the gate is near 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.candidate = nn.Linear(11, 8), nn.Linear(11, 8)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], -1)
        z = torch.sigmoid(self.gate(both))
        return (1 - z) * h + z * torch.tanh(self.candidate(both))


class Raw(nn.Module):
    """Parameters of its own, input by rows: x @ W + h @ U."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(3, 8)), nn.Parameter(0.3 * torch.randn(8, 8))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(x @ self.W + h @ self.U)


class TwoGates(nn.Module):
    """A GRU with both gates in one matrix, which keeps its state where z, the first half, is near 1."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.candidate = nn.Linear(11, 16), nn.Linear(11, 8)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        return (1 - z) * torch.tanh(self.candidate(torch.cat([x, r * h], -1))) + z * h


def parts(cell: nn.Module) -> set[str]:
    torch.manual_seed(0)
    return set(facts_of(ByHand(cell), torch.randn(6, 15, 3), time_dim=1).hand_written)


def test_matrices_biases_and_readers_of_a_plain_cell() -> None:
    torch.manual_seed(1)
    assert parts(Tanh()) == {
        "recurrent cell.wh.weight",
        "input cell.wx.weight",
        "bias cell.wx.bias",
        "reader out",
    }
    assert parts(Raw()) == {"recurrent cell.U", "input cell.W", "reader out"}


def test_the_side_on_which_a_gate_keeps_the_state() -> None:
    torch.manual_seed(1)
    assert parts(Gated()) == {
        "recurrent cell.gate.weight[:, 3:11]",
        "input cell.gate.weight[:, 0:3]",
        "recurrent cell.candidate.weight[:, 3:11]",
        "input cell.candidate.weight[:, 0:3]",
        "keeps-low cell.gate.bias",
        "bias cell.candidate.bias",
        "reader out",
    }
    found = parts(TwoGates())
    assert {"keeps-high cell.gates.bias[0:8]", "bias cell.gates.bias[8:16]"} <= found
    assert "recurrent cell.gates.weight[:, 3:11]" in found


def test_no_recurrence_is_found_where_there_is_none() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.two(self.one(x_t)) for x_t in x.unbind(1)], 1)

    assert facts_of(Rows(), torch.randn(6, 15, 3), time_dim=1).hand_written == ()
    assert facts_of(nn.Linear(3, 4), torch.randn(6, 15, 3)).recurrences == ()


def test_a_start_of_what_was_written_by_hand() -> None:
    torch.manual_seed(1)
    model = ByHand(Gated())
    nn.init.constant_(model.cell.gate.bias, 4.0)
    x = torch.randn(6, 15, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    facts = facts_of(model, x, time_dim=1)
    TreatmentPlan(start="chrono", start_steps=20, hand_written=facts.hand_written).apply(model, optimizer)
    keeps = 1 - torch.sigmoid(model.cell.gate.bias.detach())
    assert bool((keeps >= 0.5).all())
    assert float(keeps.max()) > 0.8
    matrix = model.cell.candidate.weight.detach()[:, 3:]
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(8))


def test_a_gain_goes_to_the_readers_of_the_state_alone() -> None:
    torch.manual_seed(1)
    model = ByHand(Tanh())
    x = torch.randn(6, 15, 3)
    before = model(x)
    plan = TreatmentPlan(recurrent_gain=10.0, hand_written=facts_of(model, x, time_dim=1).hand_written)
    model, _ = plan.apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
    torch.testing.assert_close(model(x), 10 * before)


def test_what_is_known_of_modules_inputs_and_optimizer() -> None:
    model = nn.Sequential(nn.LSTM(3, 8, num_layers=2, batch_first=True))
    x = torch.full((4, 20, 3), 2.0)
    x[:, :, 1] = torch.arange(20.0)
    facts = facts_of(model, x, optimizer=torch.optim.AdamW(model.parameters(), lr=0.01))
    (layer,) = facts.recurrences
    assert (layer.name, layer.kind, layer.num_layers, layer.one_step) == ("0", "lstm", 2, False)
    assert layer.input_square == float(x.square().sum(-1).mean())
    assert facts.num_steps == 20
    assert facts.input_mean == (2.0, 9.5, 2.0)
    assert facts.input_deviation is not None
    assert facts.input_deviation[0] == 1.0
    x[:, :, 2] = 0.0
    x[:, 3, 2] = -50.0
    sparse = facts_of(model, x)
    assert sparse.input_mean is not None
    assert sparse.input_deviation is not None
    assert (sparse.input_mean[1:], sparse.input_deviation[1:]) == ((0.0, 0.0), (50.0, 50.0))
    assert (sparse.input_mean[0], sparse.input_deviation[0]) == (2.0, 1.0)
    assert (facts.optimizer, facts.learning_rate, facts.weight_decay) == ("AdamW", 0.01, 0.01)


class Weather(nn.Module):
    """Stations, what is known of them, when they were read, and which of them there are."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, batch_first=True)

    def forward(self, x: Tensor, place: Tensor, hours: Tensor, ids: Tensor) -> Tensor:
        return self.rnn(torch.cat([x, hours[..., None]], -1))[0] + place.sum() + ids.sum()


def test_what_is_known_of_other_arguments() -> None:
    torch.manual_seed(0)
    inputs = {
        "x": torch.randn(16, 9, 3),
        "place": 100 + torch.randn(16, 2),
        "hours": 1e4 + 50 * torch.randn(16, 9),
        "ids": torch.arange(16),
    }
    for given in (inputs, tuple(inputs.values())):
        facts = facts_of(Weather(), given)
        (place, means, deviations), (hours, mean, deviation) = facts.other_inputs
        assert (place, hours) == ("place", "hours")
        assert means == tuple(inputs["place"].double().mean(0).tolist())
        assert deviations == tuple(inputs["place"].double().std(0).tolist())
        assert (len(mean), len(deviation)) == (1, 1)
        evidence = PatientEvidence(Diagnosis.of([], not_checked={}, ignored=(), horizons={}, notes=()), facts)
        plan = remedy("standardise").apply(TreatmentPlan(), evidence)
        assert plan.input_mean is None
        assert [name for name, *_ in plan.other_inputs] == ["place", "hours"]


def test_what_is_known_of_numbers_beside_tokens() -> None:
    class Tokens(Weather):
        def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(numbers[..., :3], numbers.new_zeros(1), numbers[..., 3], ids)

    facts = facts_of(Tokens(), (torch.ones(5, 7, dtype=torch.long), 30 * torch.randn(5, 7, 4)))
    assert facts.input_mean is None
    assert [name for name, *_ in facts.other_inputs] == ["numbers"]
    assert remedy("standardise").applies_to(facts)
    assert not remedy("clip-outliers").applies_to(facts)


def test_arguments_without_names_are_left_alone() -> None:
    class Several(Weather):
        def forward(self, *inputs: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(*inputs)

    inputs = (torch.randn(5, 7, 3), 99 * torch.randn(5, 2), torch.randn(5, 7), torch.arange(5))
    assert facts_of(Several(), inputs).other_inputs == ()
    assert facts_of(Weather(), inputs[:2]).other_inputs == ()  # a call that does not fit


def test_the_state_of_a_recurrence_is_no_input() -> None:
    assert facts_of(nn.RNN(3, 8), (torch.randn(4, 2, 3), 100 * torch.randn(1, 2, 8))).other_inputs == ()


class Carrying(nn.Module):
    """Takes a state and gives it back, or begins with one that it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, goes_on: bool = True) -> Any:
        y, (h, c) = self.rnn(x, (h, c))
        return (self.out(y), h.detach(), c) if goes_on else self.out(y)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_state_that_a_model_carries_is_no_input(goes_on: bool) -> None:
    inputs = (torch.randn(9, 4, 3), 100 * torch.randn(1, 4, 8), 100 * torch.randn(1, 4, 8), goes_on)
    assert facts_of(Carrying(), inputs).other_inputs == ()


def test_packed_sequences_and_recurrent_layers() -> None:
    torch.manual_seed(0)
    layer = Recurrent("elman", 3, 8)
    facts = facts_of(layer, pack_sequence([torch.ones(9, 3), torch.ones(4, 3)]))
    assert [(r.kind, r.input_square) for r in facts.recurrences] == [("elman", 3.0)]
    assert facts.num_steps == 9


class Rectified(Tanh):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.wx(x) + self.wh(h))


def test_a_recurrence_whose_units_are_dead_or_saturated_is_found_too() -> None:
    alive, dead, flat = Tanh(), Rectified(), Tanh()
    nn.init.constant_(dead.wx.bias, -100.0)
    nn.init.constant_(flat.wx.bias, 1000.0)
    assert parts(dead) == parts(flat) == parts(alive) != set()


def test_units_that_are_off_for_one_input_belong_to_the_state_all_the_same() -> None:
    mostly_off = Rectified()
    nn.init.constant_(mostly_off.wx.bias, -1.0)
    found = parts(mostly_off)
    assert {"recurrent cell.wh.weight", "input cell.wx.weight"} <= found
    assert not any("[" in part for part in found)
