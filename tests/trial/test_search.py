"""The space of plans, and random search over it."""

from __future__ import annotations

import random
from itertools import islice

import pytest
import torch

from throughtime.remedy import TreatmentPlan
from throughtime.trial.search import CHANGES, known_of, random_arms, random_plan
from trial.toys import Toy


def test_what_is_known_is_what_the_patient_has() -> None:
    known = known_of(Toy(rate=0.5), 0)
    assert (known.facts.learning_rate, known.num_steps, known.facts.window, known.per_step) == (0.5, 6, None, False)
    assert known.facts.input_mean == pytest.approx((1 / 12, 1 / 12), abs=0.1)


def test_the_same_seed_draws_the_same_plans() -> None:
    first = list(islice(random_arms(Toy(), 3), 6))
    assert first == list(islice(random_arms(Toy(), 3), 6))
    assert first != list(islice(random_arms(Toy(), 4), 6))
    assert len({arm.plan for arm in first}) == 6


def test_every_plan_fits_the_model_and_changes_something() -> None:
    for arm in islice(random_arms(Toy(), 0), 25):
        assert arm.plan.changes
        arm.plan.apply(*Toy().build(1))


def test_every_change_is_drawn() -> None:
    known, draw = known_of(Toy(), 0), random.Random(0)
    seen = {name for _ in range(400) for name in random_plan(draw, known).changes}
    wanted = {name for change in CHANGES.values() for name in change(draw, known) or {}}
    assert wanted <= seen
    assert all(name in TreatmentPlan.__dataclass_fields__ for name in wanted)


def test_drawing_leaves_the_random_states() -> None:
    before = torch.get_rng_state(), random.getstate()
    list(islice(random_arms(Toy(), 0), 3))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
