"""Patients as people write them at first: refused in one line where nothing could show, else read as meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import throughtime
from throughtime.errors import InputError, RecipeError
from throughtime.remedy import TreatmentPlan
from throughtime.trial.loop import train
from throughtime.trial.patient import admit
from throughtime.trial.prescribing import choices_for
from trial.toys import Reader, Toy

SEEDS = (0, 1, 2, 3, 4)


class OneModel(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.model = Reader()

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        with torch.no_grad():
            self.model.rnn.weight_hh_l0 += seed
        return self.model, torch.optim.Adam(self.model.parameters())


class Nowhere(Toy):
    def score(self, model: nn.Module) -> float:
        return math.nan


class InDicts(Toy):
    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        for x, y in super().batches(seed):
            yield {"tokens": x}, y


def test_one_model_for_all_seeds() -> None:
    with pytest.raises(InputError, match=r"build gives the same model for seeds 0 and 1: .* make a new one in build"):
        admit(OneModel(), SEEDS)


def test_a_class_in_place_of_an_object() -> None:
    with pytest.raises(InputError, match=r"a patient is an object: hand over Toy\(\), and not the class"):
        throughtime.treat(Toy, jobs=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Nowhere, "score gives no finite number, before training and after it, whatever the weights are"),
        (InDicts, r"unexpected keyword argument 'tokens' \(the model gets these inputs as named arguments: a tuple of"),
    ],
)
def test_what_no_treatment_could_show(kind: type[Toy], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        throughtime.treat(kind(), jobs=1)
    assert "\n" not in str(caught.value)


def test_choices_that_are_no_choices() -> None:
    with pytest.raises(RecipeError, match=r"seeds must differ from one another, not \[1, 1, 2, 3, 4\]"):
        throughtime.treat(Toy(), seeds=[1, 1, 2, 3, 4], jobs=1)
    for seconds in (math.nan, math.inf, 0.0, -1.0):
        with pytest.raises(RecipeError, match="budget_seconds must be a number of seconds above 0, not"):
            throughtime.treat(Toy(), budget_seconds=seconds, jobs=1)


class Carrying(nn.Module):
    """(B, T, 2) and a state -> (B, T, 1) and the next one."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 4, batch_first=batch_first), nn.Linear(4, 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(x.shape))
        y, state = self.rnn(x, state)
        return self.out(y), state


class Cut(Toy):
    time_dim = None  # type: ignore[assignment]
    window = 4

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        shape = (6, 12, 2) if self.batch_first else (12, 6, 2)
        while True:
            x = torch.ones(shape)
            yield x, x[..., :1]

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return (outputs[0] - targets).square().mean()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("plan", "steps"), [(TreatmentPlan(), (4, 4)), (TreatmentPlan(window=6), (6, 6))])
def test_windows_are_cut_along_the_axis_that_the_model_reads_as_time(
    batch_first: bool, plan: TreatmentPlan, steps: tuple[int, ...]
) -> None:
    patient, model = Cut(batch_first), Carrying(batch_first)
    train(patient, model, torch.optim.SGD(model.parameters(), 0.1), patient.batches(0), 2, plan)
    cut = [(6, each, 2) if batch_first else (each, 6, 2) for each in steps]
    assert model.seen[-2:] == cut


def test_sequences_grow_along_that_axis_too() -> None:
    patient, model = Cut(batch_first=True), Carrying(batch_first=True)
    patient.window = None  # type: ignore[assignment]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(patient, model, optimizer, patient.batches(0), 8, TreatmentPlan(curriculum=0.5))
    grown = [shape[1] for shape in model.seen[-8:]]
    assert {shape[0] for shape in model.seen} == {6}
    assert grown == sorted(grown)
    assert (grown[0], grown[-1]) == (2, 12)


def test_a_state_that_is_carried_already_is_no_treatment() -> None:
    plans = {"carry": TreatmentPlan(carry=True), "clip": TreatmentPlan(clip=1.0)}
    chosen = choices_for(Cut(batch_first=True), 0, None, None, plans)
    assert [arm.name for arm in chosen.arms] == ["clip"]
    assert "'carry' does not fit: the state is carried from window to window as it is" in chosen.notes
