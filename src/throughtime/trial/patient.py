"""What can be treated: whatever can be built and trained again for a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.errors import InputError
from throughtime.measurement.arguments import tensors_within
from throughtime.trial.surroundings import files_written, quietly, seeded

__all__ = ["OPTIONAL", "Admitted", "Batches", "Patient", "admit", "option"]

OPTIONAL = (
    "clip", "honours", "lengths", "look", "need", "reach", "steps", "time_dim", "train", "treated", "validation",
    "window",
)  # fmt: skip
"""Attributes that a patient may have beside those of the protocol."""


@runtime_checkable
class Patient(Protocol):
    """What a user hands over.

    A patient may also have:

    - `steps`: how many updates it is trained for.
    - `clip`: the norm that its gradient is clipped to as it is; without it, none.
    - `window`: steps of truncated backpropagation through time; the state is then carried from window to window.
    - `time_dim`, `lengths`, `validation` (inputs, targets), `need`: as for `throughtime.diagnose`.
    - `train(model, optimizer, batches, num_steps, plan)`: its own loop. Clipping, warm-up, left-out updates and early
      stopping reach it through hooks of the optimizer. What only a loop can do it reads from the plan, and names in
      `honours`: some of "window", "carry", "batch_factor", "curriculum". Where it clips by itself it has to leave that
      to the hooks when the plan has a `clip`.
    - `reach(model)`: how far its gradient reaches, in steps, for one whose model is not called on the inputs alone.
    - `look(model)`: a `Look`, likewise: its loss and its gradient through time, which a page of the trial draws.
    - `treated(plan)`: the same patient under a plan; for one that knows better than `plan.apply` how to be treated.

    Attributes:
        target: the score that means that it has learned; None where nobody knows.
    """

    target: float | None

    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        """A freshly drawn model and its optimizer."""
        ...

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        """(inputs, targets), the same ones for the same seed; begun again where they run out."""
        ...

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """A scalar, or losses of positions, whose mean is taken."""
        ...

    def score(self, model: nn.Module) -> float:
        """How good a model is on data that it was not trained on; the higher the better."""
        ...


def option(patient: Patient, name: str) -> Any:
    """An optional attribute of a patient, None where it has none."""
    assert name in OPTIONAL, name
    return getattr(patient, name, None)


class Batches:
    """The batches of a seed, without end.

    Args:
        patient: whose.
        seed: which.
    """

    def __init__(self, patient: Patient, seed: int) -> None:
        self.patient, self.seed = patient, seed
        self.stream = iter(patient.batches(seed))
        self.num_given = 0
        self.ran_out_after: int | None = None

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[Any, Any]:
        try:
            batch = next(self.stream)
        except StopIteration:
            if not self.num_given:
                raise InputError(f"batches({self.seed}) is empty: expected (inputs, targets)") from None
            self.ran_out_after = self.ran_out_after or self.num_given
            self.stream = iter(self.patient.batches(self.seed))
            batch = next(self.stream)
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise InputError(f"batches({self.seed}) gives {type(batch).__name__}: expected (inputs, targets)")
        self.num_given += 1
        return batch[0], batch[1]


@dataclass(frozen=True)
class Admitted:
    """A patient that was looked over.

    Attributes:
        seed: the first one with which it can be built and scored.
        notes: what its user should know, a sentence each; the trial goes on.
        scoreless: whether its score is no finite number before any training, whatever the weights are.
    """

    seed: int
    notes: tuple[str, ...]
    scoreless: bool = False


def admit(patient: Any, seeds: tuple[int, ...]) -> Admitted:
    """Look a patient over before anything is trained.

    Args:
        patient: what the user handed over.
        seeds: that it will be trained with.

    Raises:
        InputError: if it cannot be treated, with the reason.
    """
    if isinstance(patient, type):
        raise InputError(f"a patient is an object: hand over {patient.__name__}(), and not the class")
    for name in ("build", "batches", "loss", "score"):
        if not callable(getattr(patient, name, None)):
            raise InputError(
                f"a patient has build(seed), batches(seed), loss(outputs, targets), score(model) and target: "
                f"{type(patient).__name__} has no '{name}'"
            )
    target = getattr(patient, "target", None)
    if target is not None and not (isinstance(target, int | float) and math.isfinite(target)):
        raise InputError(f"the target of a patient is a number, or None where nobody knows, not {target!r}")
    if not hasattr(patient, "target"):
        raise InputError("a patient has a target: the score that means that it has learned, or None")
    with files_written() as files:
        seen, errors = _looks(patient, seeds)
    if not seen:
        raise errors[0]
    looks = list(seen.values())
    notes = [f"{error}: with such a seed it has not learned" for error in errors]
    if files:
        notes.append(
            f"files of the present folder changed as the patient was looked over ({', '.join(files[:3])}): if it "
            "writes them, every training does, over those of the others and of those beside it"
        )
    if len(looks) == 2:
        if looks[0].model is looks[1].model:
            raise InputError(
                f"build gives the same model for seeds {' and '.join(map(str, seen))}: what one training has learned "
                "the next one would begin with; make a new one in build"
            )
        same_weights = _equal(looks[0].weights, looks[1].weights)
        which = " and ".join(map(str, seen))
        if same_weights and _equal(looks[0].batch, looks[1].batch):
            raise InputError(
                f"build and batches give the same weights and the same data for seeds {which}: "
                "one training would be counted several times; draw at least one of them from the seed"
            )
        if same_weights:
            notes.append(
                f"build gives the same weights for seeds {which}: it ignores the seed, "
                "so trainings differ in their batches alone"
            )
        if _equal(looks[0].batch, looks[1].batch):
            notes.append(f"batches gives the same first batch for seeds {which}")
    scores = {score for look in looks for score in look.scores}
    if scores == {math.inf}:
        notes.append("score gives no finite number before any training, whatever the weights are")
    elif len(scores) == 1:
        notes.append(f"score gives {looks[0].scores[0]:g} whatever the weights are: it may not look at the model")
    return Admitted(next(iter(seen)), tuple(notes), scores == {math.inf})


@dataclass(frozen=True)
class _Look:
    """What a patient is for a seed, before any training."""

    model: nn.Module
    weights: list[Tensor]
    batch: list[Tensor]
    scores: list[float]


def _looks(patient: Patient, seeds: tuple[int, ...]) -> tuple[dict[int, _Look], list[InputError]]:
    """Of two seeds with which it does not fail, by seed; and how it fails with those before them."""
    seen: dict[int, _Look] = {}
    errors: list[InputError] = []
    for seed in seeds:
        if len(seen) < 2:
            try:
                seen[seed] = _look(patient, seed)
            except InputError as error:
                errors.append(error)
    return seen, errors


def _look(patient: Patient, seed: int) -> _Look:
    """Raises InputError where building, drawing or scoring fails."""
    with seeded(seed), quietly():
        made = _tried(f"build({seed})", lambda: patient.build(seed))
        if not (isinstance(made, tuple | list) and len(made) == 2 and isinstance(made[0], nn.Module)):
            raise InputError(f"build({seed}) gives {type(made).__name__}: expected (model, optimizer)")
        model: nn.Module = made[0]
        inputs, targets = _tried(f"batches({seed})", lambda: next(Batches(patient, seed)))
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        scores = [_score(patient, model)]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        scores.append(_score(patient, model))
    return _Look(model, weights, list(tensors_within((inputs, targets))), scores)


def _score(patient: Patient, model: nn.Module) -> float:
    """Before training; infinity stands for anything that is not finite."""
    with torch.no_grad():
        value = _tried("score", lambda: float(patient.score(model.eval())))
    return value if math.isfinite(value) else math.inf


def _tried(what: str, call: Any) -> Any:
    try:
        return call()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"the patient's {what} fails before any training ({type(error).__name__}: {error})") from error


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))
        for a, b in zip(first, second, strict=True)
    )
