"""Random search over plans: always an arm, because it does better than many a published tool that repairs networks.

The space was fixed before anything was tried on it, and is a table below: a plan drawn from it has one to three of its
changes, each equally likely, with values over the whole range in which anybody would look for them. It was changed
once: noise on the inputs came into it when a remedy began to add it, so that both sides have it.

*Reference*: Bergstra & Bengio 2012, *Random search for hyper-parameter optimization*, JMLR 13.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from throughtime.remedy import PatientFacts, TreatmentPlan
from throughtime.trial.course import misfit
from throughtime.trial.halving import Arm
from throughtime.trial.loop import axis_of_time
from throughtime.trial.patient import Batches, Patient
from throughtime.trial.prescribing import facts_about
from throughtime.trial.surroundings import quietly, seeded

__all__ = ["CHANGES", "Known", "known_of", "random_arms", "random_plan"]

_MOST_CHANGES = 3
_TRIES = 200
"""Plans that are drawn, at most, until one fits the patient's model."""


@dataclass(frozen=True)
class Known:
    """What a plan is drawn for.

    Attributes:
        facts: of the patient.
        per_step: whether targets have an axis of time.
    """

    facts: PatientFacts
    per_step: bool

    @property
    def num_steps(self) -> int:
        """Of a sequence."""
        return self.facts.num_steps or 1


Draw = Callable[[random.Random, Known], dict[str, Any] | None]


def _log(draw: random.Random, low: float, high: float) -> float:
    """Uniform in the logarithm, to three digits."""
    return float(f"{low * (high / low) ** draw.random():.3g}")


def _start(draw: random.Random, known: Known) -> dict[str, Any]:
    """A recurrence written by hand has to be named to be drawn anew."""
    named = {"hand_written": known.facts.hand_written} if known.facts.hand_written else {}
    return {"start": draw.choice(("orthogonal", "identity", "critical")), **named}


def _gates(draw: random.Random, known: Known) -> dict[str, Any]:
    named = {"hand_written": known.facts.hand_written} if known.facts.hand_written else {}
    steps = round(_log(draw, 2, max(3, known.num_steps)))
    return {"start": draw.choice(("forget-bias", "chrono", "uniform-gate")), "start_steps": steps, **named}


def _window(draw: random.Random, known: Known) -> dict[str, Any] | None:
    present = known.facts.window
    if present is None or present >= known.num_steps:
        return None
    return {"window": min(known.num_steps, present * draw.choice((2, 4, 8, 16)))}


def _rate(draw: random.Random, known: Known) -> dict[str, Any] | None:
    present = known.facts.learning_rate
    return {"learning_rate": _log(draw, 1e-3, 1e3) * present} if present else None


def _inputs(draw: random.Random, known: Known) -> dict[str, Any] | None:
    names = ("input_mean", "input_deviation", "other_inputs")
    scales = {name: getattr(known.facts, name) for name in names if getattr(known.facts, name)}
    if not scales:
        return None
    bound = {"clip_outliers": draw.choice((3.0, 5.0, 10.0))} if draw.random() < 0.5 else {}
    return {**scales, **bound}


_CLIPS = {"norm": (1e-2, 1e2), "value": (1e-3, 10.0), "adaptive": (1e-3, 0.3), "z-score": (1.0, 5.0)}


def _clip(draw: random.Random, _: Known) -> dict[str, Any] | None:
    kind = draw.choice((*_CLIPS, "none"))
    return {"clip": 0.0} if kind == "none" else {"clip_kind": kind, "clip": _log(draw, *_CLIPS[kind])}


CHANGES: dict[str, Draw] = {
    "fresh": lambda *_: {"fresh": True},
    "start": _start,
    "gates": _gates,
    "cell": lambda draw, known: {
        "cell": draw.choice(("elman", "gru", "lstm", "indrnn", "mingru", "minlstm", "lru", "sru", "lem", "cornn")),
        "start_steps": known.num_steps,
    },
    "layer norm": lambda *_: {"layer_norm": True},
    "skip": lambda draw, known: {"skip": round(_log(draw, 1, max(2, known.num_steps)))},
    "gain": lambda draw, _: {"recurrent_gain": _log(draw, 1e-2, 1e4)},
    "input gain": lambda draw, _: {"recurrent_input_gain": _log(draw, 1e-3, 1e2)},
    "inputs": _inputs,
    "noise": lambda draw, known: None if known.facts.input_mean is None else {"input_noise": _log(draw, 0.03, 3)},
    "clip": _clip,
    "omega": lambda draw, _: {"omega": _log(draw, 0.1, 10)},
    "flossing": lambda draw, _: {"flossing": draw.choice((20, 100))},
    "learning rate": _rate,
    "warm-up": lambda draw, _: {"warmup_share": round(draw.uniform(0.05, 0.5), 2)},
    "weight decay": lambda draw, _: {"weight_decay": _log(draw, 1e-4, 1)},
    "dropout": lambda draw, _: {"dropout": round(draw.uniform(0.1, 0.6), 2)},
    "auxiliary loss": lambda draw, known: {
        "auxiliary": _log(draw, 0.1, 10),
        "auxiliary_steps": round(_log(draw, 1, max(2, known.num_steps))),
    },
    "window": _window,
    "carry": lambda draw, known: None if known.facts.window is None else {"carry": draw.random() < 0.5},
    "graph": lambda *_: {"keep_graph": True},
    "batch": lambda draw, _: {"batch_factor": draw.choice((2, 4, 8))},
    "curriculum": lambda draw, known: {"curriculum": round(draw.uniform(0.2, 0.7), 2)} if known.per_step else None,
    "patience": lambda draw, _: {"patience": draw.choice((3, 5, 10))},
    "non-finite updates": lambda *_: {"drop_non_finite": True},
    "all parameters": lambda *_: {"all_parameters": True},
    "reset gradients": lambda *_: {"reset_gradients": True},
}
"""By name, what is drawn; None where a patient has no use for it."""


def random_plan(draw: random.Random, known: Known) -> TreatmentPlan:
    """One plan of the space."""
    plan = TreatmentPlan()
    names = draw.sample(sorted(CHANGES), draw.randint(1, _MOST_CHANGES))
    for name in names:
        plan = plan.changed(**(CHANGES[name](draw, known) or {}))
    return plan


def random_arms(patient: Patient, seed: int) -> Iterator[Arm]:
    """Arms without end; the same ones for the same seed. Plans that do not fit the model are drawn again.

    Args:
        patient: for whose model.
        seed: of the draws, and of the model that they have to fit.
    """
    known = known_of(patient, seed)
    draw = random.Random(seed)
    seen = {TreatmentPlan()}
    number = 0
    for _ in range(_TRIES):
        plan = random_plan(draw, known)
        if plan in seen or misfit(patient, plan, seed):
            continue
        seen.add(plan)
        number += 1
        yield Arm(name=f"random {number}", plan=plan, source="random", reason="drawn from the space of plans")


def known_of(patient: Patient, seed: int) -> Known:
    """From a freshly built model and its first batch."""
    facts = facts_about(patient, seed)
    with seeded(seed), quietly():
        model, _ = patient.build(seed)
        inputs, targets = next(Batches(patient, seed))
        time_dim = axis_of_time(patient, model, inputs)
    per_step = isinstance(targets, Tensor) and targets.dim() > time_dim and targets.shape[time_dim] == facts.num_steps
    return Known(facts, per_step and (facts.num_steps or 1) > 1)
