"""What a step costs, measured alone before anything is compared, so that every arm gets the same compute."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import prelude, prepared, train_under, under
from throughtime.trial.ledger import Ledger
from throughtime.trial.patient import Batches, Patient
from throughtime.trial.surroundings import num_threads, quietly, seeded

__all__ = ["StepTimes"]

_COSTLY = (
    "all_parameters", "auxiliary", "batch_factor", "cell", "clip_kind", "curriculum", "dropout", "drop_non_finite",
    "keep_graph", "layer_norm", "omega", "skip", "window",
)  # fmt: skip
"""Fields of a plan that change what a step costs; plans that agree in them share one measurement."""

_ALIKE = 0.1
"""Times that differ by less are taken as equal: a clock on a shared machine tells no more."""
_UNKNOWN_SECONDS = 1e-3
"""Of a patient that cannot be trained as it is."""
_WARM_STEPS, _TIMED_STEPS = 2, 4
_FEWEST_REPEATS, _MOST_REPEATS, _ENOUGH_SECONDS = 3, 12, 0.5
"""Repeats go on until so much was measured: what is over in a millisecond is easily disturbed."""
_FLOSSING_STEPS = 2
_UNTREATED = TreatmentPlan()


class StepTimes:
    """Seconds a step, by kind of plan; measured once, and written into the ledger.

    Args:
        patient: whose steps.
        ledger: has the times of a trial that is continued.
        seed: of the model and the batches that are timed.
        whole: what makes a step of the patient a whole one. By mistake it may leave most of itself out, and is then
            cheaper than what its writer has in mind who says how many steps it takes.
    """

    def __init__(self, patient: Patient, ledger: Ledger, seed: int, whole: TreatmentPlan = _UNTREATED) -> None:
        self.patient, self.ledger, self.seed, self.whole = patient, ledger, seed, whole

    @property
    def unit(self) -> float:
        """Seconds of a whole step, in which compute is counted."""
        return max(self.seconds(_UNTREATED), self.seconds(self.whole))

    def in_steps_of(self, whole: TreatmentPlan) -> StepTimes:
        """The same times, with another whole step."""
        return StepTimes(self.patient, self.ledger, self.seed, whole)

    def seconds(self, plan: TreatmentPlan) -> float:
        """Of one step under a plan; those of the patient as it is where the plan cannot be applied."""
        changes = plan.changes
        kind = json.dumps({name: changes[name] for name in _COSTLY if name in changes})
        if kind not in self.ledger.seconds:
            self.ledger.time(kind, self._untreated() if kind == "{}" else self._treated(plan))
        return self.ledger.seconds[kind]

    def seconds_before(self, plan: TreatmentPlan) -> float:
        """What a plan does before the first step."""
        if plan.flossing is None:
            return 0.0
        kind = f"flossing {json.dumps({'cell': plan.cell})}"
        if kind not in self.ledger.seconds:
            self.ledger.time(kind, self._flossing(plan) or 0.0)
        return plan.flossing * self.ledger.seconds[kind]

    def ratio(self, plan: TreatmentPlan) -> float:
        """Of a step under the plan to one of the patient as it is."""
        return self.seconds(plan) / self.seconds(_UNTREATED)

    def _untreated(self) -> float:
        with num_threads(1), seeded(self.seed), quietly():
            try:
                return min(pair[0] for pair in _repeated(self._stepper(_UNTREATED)))
            except Exception:  # whatever a user's code raises: the training will say it
                return _UNKNOWN_SECONDS

    def _treated(self, plan: TreatmentPlan) -> float:
        """By turns with the patient as it is, so that what slows the machine down slows down both."""
        untreated = self.seconds(_UNTREATED)
        with num_threads(1), seeded(self.seed), quietly():
            try:
                without, with_it = self._stepper(_UNTREATED), self._stepper(plan)
                pairs = _repeated(without, with_it)
            except Exception:  # see above
                return untreated
        ratio = min(pair[1] for pair in pairs) / min(pair[0] for pair in pairs)
        return untreated * (1.0 if abs(ratio - 1) < _ALIKE else ratio)

    def _stepper(self, plan: TreatmentPlan) -> Callable[[], None]:
        """What makes `_TIMED_STEPS` steps, after some that are not timed."""
        plan = plan.changed(patience=None)  # looks at the validation loss a few times in a training
        patient = under(self.patient, plan)
        model, optimizer = prepared(patient, plan, self.seed)
        batches = Batches(patient, self.seed)
        train_under(patient, plan, model, optimizer, batches, _WARM_STEPS)

        def steps() -> None:
            train_under(patient, plan, model, optimizer, batches, _TIMED_STEPS)

        return steps

    def _flossing(self, plan: TreatmentPlan) -> float | None:
        """Of one step of it."""
        with num_threads(1), seeded(self.seed), quietly():
            try:
                patient = under(self.patient, plan)
                model, _ = prepared(patient, plan, self.seed)
                begin = _now()
                prelude(patient, plan.changed(flossing=_FLOSSING_STEPS), model, self.seed)
            except Exception:  # the training will say it
                return None
        return (_now() - begin) / _FLOSSING_STEPS


def _repeated(*steppers: Callable[[], None]) -> list[tuple[float, ...]]:
    """Seconds a step of each, by turns."""
    found: list[tuple[float, ...]] = []
    while len(found) < _FEWEST_REPEATS or (
        len(found) < _MOST_REPEATS and sum(map(sum, found)) * _TIMED_STEPS < _ENOUGH_SECONDS
    ):
        found.append(tuple(_timed(steps) for steps in steppers))
    return found


def _timed(steps: Callable[[], None]) -> float:
    begin = _now()
    steps()
    return (_now() - begin) / _TIMED_STEPS


def _now() -> float:
    """What this process has computed, in seconds: other processes take time from it, and no compute.

    A device works beside the process, so there its work is waited for, by the clock on the wall.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
