"""Faults of the data are in the batch at hand, and scripts broken anywhere do worse than their plain twin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ward.case import Case
from ward.cases import CASES

SEEDS = (0, 1, 2)
OURS = [case for case in CASES if case.base.startswith("w_")]
PLAIN = {case.base: case for case in reversed(OURS) if case.code is None}


def with_code(code: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in OURS if case.code == code], ids=lambda case: case.name)


def features(inputs: Any) -> Iterator[Tensor]:
    values = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    return (value for value in values if value.is_floating_point())


def num_constant(inputs: Any) -> int:
    columns = [column for value in features(inputs) for column in value.flatten(0, -2).T]
    return sum(bool((column == column[0]).all()) for column in columns)


@with_code("non-finite-data")
def test_the_batch_at_hand_holds_what_is_not_finite(case: Case) -> None:
    assert not all(value.isfinite().all() for value in features(case.make(0).inputs))


@with_code("constant-feature")
def test_features_are_constant_and_were_not_in_the_plain_script(case: Case) -> None:
    assert num_constant(case.make(0).inputs) > 0
    assert num_constant(PLAIN[case.base].make(0).inputs) == 0


@with_code("sequence-too-short")
def test_no_sequence_is_as_long_as_the_need(case: Case) -> None:
    factory = case.make(0).factory()
    sequence = max(features(factory["inputs"]), key=torch.Tensor.dim)
    steps = sequence.shape[1] if isinstance(factory["inputs"], dict) else sequence.shape[0]
    assert steps < factory["need"]


@pytest.mark.campaign
@pytest.mark.parametrize("case", [case for case in OURS if case.code is not None], ids=lambda case: case.name)
def test_a_broken_script_does_worse_than_the_plain_one(case: Case) -> None:
    torch.set_num_threads(1)
    totals = []
    for one in (PLAIN[case.base], case):
        patients = [one.make(seed) for seed in SEEDS]
        for patient in patients:
            patient.train(patient.steps_to_learn)
        totals.append(sum(patient.score() for patient in patients))
    assert totals[1] < totals[0]
