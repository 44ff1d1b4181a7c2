"""Which axis is time: as told, as targets or lengths show it, as the modules have it, as often as a cell is called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from diagnosis.patients import mse
from throughtime.diagnosis.axes import SettledAxes, settled_axes
from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.errors import InputError
from throughtime.measurement.probe import Axes

TIME_FIRST, BATCH_FIRST = Axes(0, 1), Axes(1, 0)


class Loop(nn.Module):
    """A loop of its own over the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.calls = nn.GRUCell(3, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = x.new_zeros(x.size(1), 4)
        for now in x:
            h = self.cell(now, h)
        return h


def settled(model: nn.Module, inputs: object, targets: object = None, **options: object) -> SettledAxes:
    return settled_axes(Case(model=model, inputs=inputs, targets=targets, loss=mse, **options))


def gru(batch_first: bool = False) -> nn.Module:
    return nn.GRU(3, 4, batch_first=batch_first)


def test_what_is_told_holds_and_a_conflict_is_seen() -> None:
    found = settled(gru(batch_first=True), torch.zeros(9, 5, 3), time_dim=0)
    assert found == SettledAxes(TIME_FIRST, "told", BATCH_FIRST)
    assert found.conflict
    agreed = settled(gru(batch_first=True), torch.zeros(9, 5, 3), time_dim=1)
    assert (agreed.axes, agreed.conflict) == (BATCH_FIRST, False)


class Turning(nn.Module):
    """Takes (B, T, I), though its layer, which says so, takes (T, B, I)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x.transpose(0, 1))[0][-1])


def test_a_model_that_turns_its_inputs_round_is_taken_as_it_reads_them() -> None:
    model, x = Turning(), torch.randn(5, 9, 3)
    assert settled(model, x) == SettledAxes(BATCH_FIRST, "modules", BATCH_FIRST)
    assert settled(model, x, torch.zeros(5)) == SettledAxes(BATCH_FIRST, "targets", BATCH_FIRST)  # no conflict
    assert settled(model, x, time_dim=0).conflict
    evidence = Evidence(Case(model=model, inputs=x, targets=torch.zeros(5, 1), loss=mse))
    assert (evidence.num_steps, evidence.gradient.profile.log10_gradient[0]) == (9, 0.0)
    assert len(evidence.gradient.lags) == 9


def test_one_sequence_without_a_batch_is_not_taken_for_a_batch() -> None:
    with pytest.raises(Missing, match=r"the model reads inputs of shape \(9, 3\) as one sequence"):
        settled(gru(), torch.zeros(9, 3))


@pytest.mark.parametrize(
    "more",
    [
        {"targets": torch.zeros(5)},
        {"targets": torch.zeros(5, 2)},
        {"targets": torch.zeros(9, 5), "lengths": [9, 8, 7, 6, 5]},
    ],
)
def test_one_target_or_length_for_each_sequence_tells(more: dict[str, object]) -> None:
    found = settled(gru(), torch.zeros(9, 5, 3), **more)
    assert found == SettledAxes(TIME_FIRST, "targets", TIME_FIRST)
    wrong = settled(gru(batch_first=True), torch.zeros(9, 5, 3), **more)
    assert (wrong.axes, wrong.conflict) == (TIME_FIRST, True)


@pytest.mark.parametrize("targets", [torch.zeros(9, 5), torch.zeros(5, 9), None, torch.zeros(()), [1, 2]])
@pytest.mark.parametrize(("batch_first", "axes"), [(False, TIME_FIRST), (True, BATCH_FIRST)])
def test_else_the_modules_tell(targets: object, batch_first: bool, axes: Axes) -> None:
    found = settled(gru(batch_first), torch.zeros(9, 5, 3), targets)
    assert found == SettledAxes(axes, "modules", axes)


def test_of_a_single_sequence_targets_of_each_step_do_not_tell() -> None:
    assert settled(gru(), torch.zeros(9, 1, 3), torch.zeros(9)) == SettledAxes(TIME_FIRST, "modules", TIME_FIRST)
    assert settled(gru(), torch.zeros(9, 1, 3), torch.zeros(9), lengths=[9]).axes == TIME_FIRST


def test_as_many_steps_as_sequences_leave_it_to_the_modules() -> None:
    assert settled(gru(batch_first=True), torch.zeros(6, 6, 3), torch.zeros(6)).by == "modules"


def test_else_a_cell_that_is_called_once_a_step_tells() -> None:
    model = Loop()
    assert settled(model, torch.zeros(9, 5, 3), torch.zeros(9, 5)) == SettledAxes(TIME_FIRST, "calls", None)
    assert model.calls == 0
    assert not model.cell._forward_hooks


def test_a_first_step_that_is_left_out_is_a_step() -> None:
    class Forecast(Loop):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:-1])

    assert settled(Forecast(), torch.zeros(9, 5, 3), torch.zeros(8, 5)).axes == TIME_FIRST


class Matrices(nn.Module):
    """A loop of its own over an axis, of matrices alone."""

    def __init__(self, axis: int, *, mixing: bool = False) -> None:
        super().__init__()
        self.axis, self.mixing = axis, mixing
        self.given, self.state = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 4) / 2)

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.size(1 - self.axis), 4), []
        for now in x.unbind(self.axis):
            h = torch.tanh(now @ self.given + h @ self.state)
            found.append(h - h.mean(0) if self.mixing else h)
        return torch.stack(found, self.axis)


@pytest.mark.parametrize(("axis", "axes"), [(0, TIME_FIRST), (1, BATCH_FIRST)])
def test_else_the_axis_along_which_an_input_is_heard_later(axis: int, axes: Axes) -> None:
    torch.manual_seed(0)
    model = Matrices(axis).train()
    assert settled(model, torch.randn(9, 5, 3), torch.zeros(9, 5)) == SettledAxes(axes, "spread", None)
    assert model.training
    with pytest.raises(Missing, match="time_dim"):
        settled(Matrices(axis, mixing=True), torch.randn(9, 5, 3), torch.zeros(9, 5))  # heard along both


def test_packed_sequences_are_plain() -> None:
    packed = pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)])
    assert settled(gru(), packed) == SettledAxes(TIME_FIRST, "told", None)


def test_the_first_tensor_of_several_arguments_counts() -> None:
    assert settled(gru(), (torch.zeros(9, 5, 3), torch.zeros(1, 5, 4)), torch.zeros(5)).axes == TIME_FIRST


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(9), r"an axis of time and one of sequences; they have shape \(9,\)"),
        (torch.zeros(9, 5, 3), r"time_dim: nothing says which axis of inputs of shape \(9, 5, 3\) is time"),
        (torch.zeros(9, 9, 3), "time_dim: nothing says"),
    ],
)
def test_where_nothing_tells_it_is_asked_for(inputs: Tensor, message: str) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x.mean(0))

    with pytest.raises(Missing, match=message):
        settled(Mean(), inputs)


def test_a_model_that_fails_says_so() -> None:
    with pytest.raises(InputError, match="the model fails on these inputs"):
        settled(Loop(), torch.zeros(9, 5, 7))
