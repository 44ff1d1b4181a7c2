"""A course: one training of a patient under a plan, for a seed and a number of steps, and what became of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer

from throughtime.errors import RecipeError, ThroughtimeError
from throughtime.measurement import measure
from throughtime.remedy import TreatmentPlan
from throughtime.remedy.flossing import floss
from throughtime.storage import write_bytes
from throughtime.trial import loop
from throughtime.trial.looks import Looking, Looks
from throughtime.trial.patient import Batches, Patient, option
from throughtime.trial.rows import FiniteRows
from throughtime.trial.steering import Steered, steered
from throughtime.trial.surroundings import num_threads, quietly, seeded

__all__ = ["Course", "CourseResult", "holds", "misfit", "prelude", "prepared", "run_course", "train_under", "under"]


_COURSE = "course"
_LOOPS = ("window", "carry", "batch_factor", "curriculum")
"""Fields of a plan that no hook can bring into a loop."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is to be trained.

    Attributes:
        plan: the treatment; one that changes nothing is the baseline.
        seed: of weights and batches.
        num_steps: updates.
        looked_at: whether the reach of the gradient is measured before training, and it is looked at while it goes on.
        keep: a file for the weights, written if it has learned, or has a score where there is no target; None for none.
    """

    plan: TreatmentPlan
    seed: int
    num_steps: int
    looked_at: bool = False
    keep: str | None = None

    @property
    def key(self) -> str:
        """By which a ledger knows it again."""
        content = {"plan": self.plan.to_json(), "seed": self.seed, "num_steps": self.num_steps}
        content["reach"] = self.looked_at  # the name that it has in the ledgers there are
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True)
class CourseResult:
    """What became of it.

    Attributes:
        score: of the trained model; None where it is not finite, or where the training failed.
        learned: whether it reached the target; False where there is none.
        failed: why it has no score, in a sentence; empty where it has one.
        reach: of the gradient at the start, in steps; None where it was not wanted or cannot be told.
        num_printed: lines that the patient printed.
        notes: what its user should know.
        looks: at the training; None where they were not wanted, or where it failed before the first one.
    """

    score: float | None
    learned: bool
    failed: str = ""
    reach: int | None = None
    num_printed: int = 0
    notes: tuple[str, ...] = field(default=())
    looks: Looks | None = None


def run_course(patient: Patient, course: Course) -> CourseResult:
    """Train once; a patient that fails has not learned, and says why.

    The same course gives the same numbers in any process: it has random states of its own, and one thread.

    Args:
        patient: to be trained.
        course: under which plan, for which seed and how long.
    """
    learned, target, looking = False, patient.target, None
    with num_threads(1), seeded(course.seed), quietly() as printed:
        reach, notes = None, []
        try:
            treated = under(patient, course.plan)
            model, optimizer = prepared(treated, course.plan, course.seed)
            batches = Batches(treated, course.seed)
            if course.looked_at:
                reach = _reach(treated, model, course.seed)
            torch.manual_seed(course.seed)
            prelude(treated, course.plan, model, course.seed)
            if course.looked_at:
                looking = Looking(treated, course.plan, model, seed=course.seed, num_steps=course.num_steps)
            with nullcontext() if looking is None else looking.during(optimizer):
                steer = train_under(treated, course.plan, model, optimizer, batches, course.num_steps)
            notes = _notes(treated, steer, batches)
            spoiled = _spoiled(model, steer)
            score, failed = (None, spoiled) if spoiled else _scored(treated, model)
            learned = score is not None and target is not None and score >= target
            if course.keep is not None and (learned or (target is None and score is not None)):
                _save(model, Path(course.keep), course)
        except ThroughtimeError as error:
            score, learned, failed = None, False, str(error)
        except (Exception, SystemExit) as error:
            score, learned = None, False
            failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return CourseResult(
        score=score,
        learned=learned,
        failed=failed,
        reach=reach,
        num_printed=len(printed.getvalue().splitlines()),
        notes=tuple(notes),
        looks=None if looking is None else looking.looks,
    )


def misfit(patient: Patient, plan: TreatmentPlan, seed: int) -> str:
    """Why a plan cannot be applied to a patient; empty where it can."""
    with seeded(seed), quietly():
        try:
            prepared(under(patient, plan), plan, seed)
        except Exception as error:  # of whatever kind: this plan is not for this model
            return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def under(patient: Patient, plan: TreatmentPlan) -> Patient:
    """The patient under a plan, where it knows how to be treated; else as it is.

    Raises:
        RecipeError: if it cannot honour the plan.
    """
    treated: Callable[[TreatmentPlan], Patient] | None = option(patient, "treated")
    return patient if treated is None else treated(plan)


def prepared(patient: Patient, plan: TreatmentPlan, seed: int) -> tuple[nn.Module, Optimizer]:
    """Model and optimizer of a seed, with the plan applied.

    Raises:
        RecipeError: if the plan cannot be applied to them, or the patient's own loop does not honour it.
    """
    if option(patient, "train") is not None and not hasattr(patient, "treated"):
        for name in _LOOPS:
            if name in plan.changes and name not in (option(patient, "honours") or ()):
                raise RecipeError(f"the patient's own loop does not honour {name}: it would have to be in `honours`")
    torch.manual_seed(seed)
    model, optimizer = patient.build(seed)
    return (model, optimizer) if hasattr(patient, "treated") else plan.apply(model, optimizer)


def prelude(patient: Patient, plan: TreatmentPlan, model: nn.Module, seed: int) -> None:
    """What a plan does before the first update: gradient flossing, on the first batch."""
    if plan.flossing is not None and not hasattr(patient, "treated"):
        inputs, _ = next(Batches(patient, seed))
        floss(model, tuple(inputs) if isinstance(inputs, list) else inputs, plan.flossing)


def train_under(
    patient: Patient, plan: TreatmentPlan, model: nn.Module, optimizer: Optimizer, batches: Batches, num_steps: int
) -> Steered:
    """Train with the patient's own loop, or with the one of this package.

    Returns:
        What the hooks have seen.
    """
    if hasattr(patient, "treated"):
        plan = TreatmentPlan()  # it has been treated in its own way
    own = option(patient, "train")
    steer = Steered(
        plan=plan,
        num_steps=num_steps,
        clip=None if own is not None else option(patient, "clip"),
        validation_loss=_validation(patient, model),
    )
    carries = own is not None and option(patient, "window") is not None  # a state of as many rows as a batch has
    drops = plan.drop_non_finite and not carries
    stream = FiniteRows(batches, model, option(patient, "time_dim")) if drops else batches
    with steered(steer, model, optimizer):
        if own is not None:
            own(model, optimizer, stream, num_steps, plan)
        else:
            loop.train(patient, model, optimizer, stream, num_steps, plan)
    if isinstance(stream, FiniteRows):
        steer.num_rows_left_out = stream.num_left_out
    return steer


def _validation(patient: Patient, model: nn.Module) -> Callable[[], float] | None:
    held_out = option(patient, "validation")
    if held_out is None:
        return None

    def validation_loss() -> float:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            value = float(loop.mean_loss(patient, loop.called(model, held_out[0])[0], held_out[1]))
        model.train(was_training)
        return value if math.isfinite(value) else math.inf

    return validation_loss


def _scored(patient: Patient, model: nn.Module) -> tuple[float | None, str]:
    model.eval()
    with torch.no_grad():
        score = float(patient.score(model))
    return (score, "") if math.isfinite(score) else (None, f"the score is {score}")


def _spoiled(model: nn.Module, steer: Steered) -> str:
    """Why what came out of a training is no trained model; empty where it is one.

    Weights of NaN still give an accuracy, that of a constant answer: it would be taken for a score.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        return "the weights are not finite after the training: losses or gradients were NaN or infinite"
    if steer.num_left_out and steer.num_left_out == steer.num_done:
        return f"not one of {steer.num_done} updates was finite: losses or gradients were NaN or infinite"
    return ""


def _notes(patient: Patient, steer: Steered, batches: Batches) -> list[str]:
    notes = []
    if batches.ran_out_after is not None:
        notes.append(f"the batches ran out after {batches.ran_out_after}, and began again")
    if not steer.num_done and not hasattr(patient, "treated"):
        notes.append("the loop never called step() of the optimizer that build gave: nothing of a plan reaches it")
    if steer.num_rows_left_out:
        notes.append(f"{steer.num_rows_left_out} sequences were left out since their inputs were not finite")
    if steer.num_left_out:
        notes.append(f"{steer.num_left_out} updates were left out since they were not finite")
    if steer.stopped_after is not None:
        notes.append(f"stopped early, after {steer.stopped_after} of {steer.num_steps} updates")
    return notes


def _reach(patient: Patient, model: nn.Module, seed: int) -> int | None:
    """Of the gradient through time, on the first batch; None where it cannot be measured."""
    own: Callable[[nn.Module], int | None] | None = option(patient, "reach")
    lengths, time_dim = option(patient, "lengths"), option(patient, "time_dim")
    try:
        if own is not None:
            return own(model)
        if hasattr(patient, "treated"):
            return None  # what it trains with is not called on the inputs alone
        inputs, targets = next(Batches(patient, seed))
        return measure(model, inputs, targets, patient.loss, lengths=lengths, time_dim=time_dim).reach
    except (ThroughtimeError, ArithmeticError, RuntimeError, TypeError, AttributeError):
        return None  # a figure beside the proof, and no part of it


def _save(model: nn.Module, path: Path, course: Course) -> None:
    """The weights, each on its own, since a file holds no ties; of which course they are, and the plan they need."""
    weights = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, save(weights, metadata={_COURSE: course.key, "plan": json.dumps(course.plan.to_json())}))


def holds(path: Path, course: Course) -> bool:
    """Whether a file has the weights of a course, and not those of an earlier trial."""
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_COURSE) == course.key
