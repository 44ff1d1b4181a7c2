"""A case of the ward trains under the trial as it does by itself, with its fault, until a plan changes it."""

from __future__ import annotations

import pickle

import pytest
import torch

from throughtime.remedy import TreatmentPlan
from throughtime.trial import Course, run_course
from ward.cases import CASES
from ward.treatable import Treatable, named

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize(
    "name",
    [
        "forecast-over-clipping-0",
        "stateful-truncated-window-1",
        "tagger-gradient-not-reset-0",
        "w_weather-unscaled-input-0",
    ],
)
def test_untreated_it_is_the_case_itself(name: str) -> None:
    torch.set_num_threads(1)
    patient = BY_NAME[name].make(3)
    patient.train(6)
    course = Course(plan=TreatmentPlan(), seed=3, num_steps=6)
    assert run_course(Treatable(BY_NAME[name]), course).score == patient.score()


def test_a_plan_lifts_the_clip_of_the_loop() -> None:
    weights = []
    for plan in (TreatmentPlan(), TreatmentPlan(clip=0.0)):
        patient = named("forecast-over-clipping-1")
        model, optimizer = patient.build(0)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        patient.train(model, optimizer, patient.batches(0), 3, plan)
        weights.append(float((torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm()))
    assert weights[0] < 1e-3 < weights[1]


def test_a_plan_lengthens_the_window_of_the_loop() -> None:
    patient = named("stateful-truncated-window-2")
    assert (patient.window, patient.honours) == (1, ("window",))
    model, optimizer = patient.build(0)
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    patient.train(model, optimizer, patient.batches(0), 2, TreatmentPlan(window=16))
    assert lengths == [16, 16]


def test_it_is_sent_to_a_process_by_its_name() -> None:
    again = pickle.loads(pickle.dumps(named("charlm-non-finite-0")))
    assert again.case.name == "charlm-non-finite-0"
    assert again.steps == 250
