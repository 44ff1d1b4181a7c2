"""The ward is honest: every case builds and runs, healthy patients learn, broken ones do not."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
import torch

from ward.case import Case, Patient
from ward.cases import CASES

SEEDS = (0, 1, 2)
HEALTHY = [case for case in CASES if case.code is None]
BROKEN = [case for case in CASES if case.code is not None]
named = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def trained(case: Case, seed: int) -> tuple[float, float | None]:
    torch.set_num_threads(1)
    patient = case.make(seed)
    patient.train(patient.steps_to_learn)
    return patient.score(), patient.target


def call(model: torch.nn.Module, inputs: Any) -> Any:
    """The model on what a batch holds: a tensor, a tuple or a mapping."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def loss_of(patient: Patient, inputs: Any, targets: Any) -> torch.Tensor:
    """A script's loss takes what its model returns, or the output alone where that comes with a state or weights."""
    returned = call(patient.model, inputs)
    try:
        return patient.loss(returned, targets)
    except (AttributeError, TypeError):
        return patient.loss(returned[0], targets)


def mean_loss(patient: Patient, inputs: Any, targets: torch.Tensor) -> float:
    losses = loss_of(patient, inputs, targets)
    return float(losses.mean() if losses.ndim == 0 else losses.sum() / (targets != -100).sum())


def with_code(code: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in CASES if case.code == code], ids=lambda case: case.name)


def reaches(case: Case, seed: int) -> bool:
    score, target = trained(case, seed)
    assert target is not None
    return score >= target


def test_names_are_unique_and_say_what_they_are() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in BROKEN:
        assert case.name == f"{case.base}-{case.code}-{case.strength}"
    assert all(case.name.startswith(f"{case.base}-") and case.strength == 0 for case in HEALTHY)


def test_there_are_enough_of_both() -> None:
    assert len(BROKEN) >= 60
    assert len(HEALTHY) >= 15


def test_every_code_has_two_scripts_and_two_strengths() -> None:
    scripts: dict[str, set[str]] = defaultdict(set)
    strengths: dict[tuple[str, str], set[int]] = defaultdict(set)
    for case in BROKEN:
        assert case.code is not None
        scripts[case.code].add(case.base)
        strengths[case.code, case.base].add(case.strength)
    assert {code for code, bases in scripts.items() if len(bases) < 2} == set()
    assert {key for key, found in strengths.items() if len(found) < 2} == set()


@named
def test_every_case_builds_and_runs(case: Case) -> None:
    torch.set_num_threads(1)
    patient = case.make(0)
    patient.train(2)
    assert isinstance(patient.score(), float)
    assert {"model", "inputs", "targets", "loss", "optimizer"} <= patient.factory().keys()


@named
def test_the_batch_at_hand_fits_the_model_and_the_loss(case: Case) -> None:
    torch.set_num_threads(1)
    patient = case.make(1)
    losses = loss_of(patient, patient.inputs, patient.targets)
    assert losses.requires_grad
    assert case.code == "non-finite-data" or not math.isnan(float(losses.detach().sum()))


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.name)
def test_a_seed_is_the_same_patient_again(case: Case) -> None:
    torch.set_num_threads(1)
    first = case.make(3)
    first.train(1)
    second = case.make(3)  # seeds torch's generator, from which dropout draws
    second.train(1)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.campaign
@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_a_healthy_patient_learns(case: Case) -> None:
    assert [seed for seed in SEEDS if not reaches(case, seed)] == []


@pytest.mark.campaign
@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_broken_patient_does_not_learn(case: Case) -> None:
    assert sum(reaches(case, seed) for seed in SEEDS) <= 1


@pytest.mark.campaign
@with_code("non-finite")
def test_a_non_finite_patient_ends_without_numbers(case: Case) -> None:
    torch.set_num_threads(1)
    patient = case.make(0)
    patient.train(patient.steps_to_learn)
    assert not all(parameter.isfinite().all() for parameter in patient.model.parameters())


@pytest.mark.campaign
@with_code("overfitting")
def test_an_overfitted_patient_knows_what_it_was_shown(case: Case) -> None:
    torch.set_num_threads(1)
    patient = case.make(0)
    patient.train(patient.steps_to_learn)
    assert patient.validation is not None
    with torch.no_grad():
        seen, unseen = mean_loss(patient, patient.inputs, patient.targets), mean_loss(patient, *patient.validation)
    assert seen < 0.5 * unseen
