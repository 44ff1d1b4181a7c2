"""The diagnosis of a patient before it is treated."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch

from throughtime.diagnosis import Diagnosis, diagnose
from throughtime.diagnosis.losses import averaged
from throughtime.measurement import WatchRecord, watch
from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import prepared, train_under
from throughtime.trial.patient import Batches, Patient, option
from throughtime.trial.surroundings import num_threads, quietly, seeded

__all__ = ["examined"]

_PROBE_EVERY = 20


def examined(
    patient: Patient, seed: int, num_steps: int, *, in_training: bool = False
) -> tuple[Diagnosis, WatchRecord | None]:
    """What is wrong at the start, or after a training that was watched.

    Args:
        patient: built for `seed`.
        seed: of weights and batches.
        num_steps: of the training.
        in_training: whether it is trained and watched first.

    Returns:
        The diagnosis, and what was seen of the training, None where there was none.
    """
    untreated = TreatmentPlan()
    with num_threads(1), seeded(seed), quietly():
        model, optimizer = prepared(patient, untreated, seed)
        batches = Batches(patient, seed)
        inputs, targets = next(batches)
        known = {name: option(patient, name) for name in ("lengths", "need", "time_dim", "validation", "window")}
        given = {name: value for name, value in known.items() if value is not None}
        given["more"] = islice(patient.batches(seed), 1, None)  # of a stream of its own, whatever a training takes
        if not in_training:
            return diagnose(model, inputs, targets, patient.loss, optimizer, seed=seed, **given), None
        watched = watch(model, optimizer, every=_PROBE_EVERY, sample_every=1, max_overhead=None)
        with watched:
            train_under(_Telling(patient, watched), untreated, model, optimizer, batches, num_steps)
        found = diagnose(model, inputs, targets, patient.loss, optimizer, watch=watched, seed=seed, **given)
        return found, watched.record


class _Telling:
    """The same patient, whose loss tells a watch what it gives."""

    def __init__(self, patient: Patient, watched: Any) -> None:
        self._patient, self._watched = patient, watched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._patient, name)

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        """The patient's, told."""
        value = self._patient.loss(outputs, targets)
        self._watched.loss(averaged(value.detach(), targets), targets if isinstance(targets, torch.Tensor) else None)
        return value
