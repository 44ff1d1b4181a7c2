"""What a step costs, measured alone before anything is compared, so that every arm gets the same compute."""

from __future__ import annotations

import json
import time

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import prelude, prepared, train_under, under
from throughtime.trial.ledger import Ledger
from throughtime.trial.patient import Batches, Patient
from throughtime.trial.surroundings import one_thread, quietly, seeded

__all__ = ["StepTimes"]

_COSTLY = (
    "all_parameters", "batch_factor", "cell", "clip_kind", "curriculum", "dropout", "drop_non_finite", "layer_norm",
    "omega", "patience", "skip", "window",
)  # fmt: skip
"""Fields of a plan that change what a step costs; plans that agree in them share one measurement."""

_ALIKE = 0.1
"""Times that differ by less are taken as equal: a clock on a shared machine tells no more."""
_UNKNOWN_SECONDS = 1e-3
"""Of a patient that cannot be trained as it is."""
_WARM_STEPS, _TIMED_STEPS, _REPEATS = 2, 4, 3


class StepTimes:
    """Seconds a step, by kind of plan; measured once, and written into the ledger.

    Args:
        patient: whose steps.
        ledger: has the times of a trial that is continued.
        seed: of the model and the batches that are timed.
    """

    def __init__(self, patient: Patient, ledger: Ledger, seed: int) -> None:
        self.patient, self.ledger, self.seed = patient, ledger, seed

    def seconds(self, plan: TreatmentPlan) -> float:
        """Of one step under a plan; those of the patient as it is where the plan cannot be applied."""
        changes = plan.changes
        kind = json.dumps({name: changes[name] for name in _COSTLY if name in changes})
        if kind not in self.ledger.seconds:
            found = self._measured(plan)
            if kind == "{}":
                self.ledger.time(kind, found or _UNKNOWN_SECONDS)
            else:
                untreated = self.seconds(TreatmentPlan())
                alike = found is None or abs(found / untreated - 1) < _ALIKE
                self.ledger.time(kind, untreated if found is None or alike else found)
        return self.ledger.seconds[kind]

    def seconds_before(self, plan: TreatmentPlan) -> float:
        """What a plan does before the first step."""
        if plan.flossing is None:
            return 0.0
        changes = {name: value for name, value in plan.changes.items() if name in ("cell", "flossing")}
        kind = f"before {json.dumps(changes)}"
        if kind not in self.ledger.seconds:
            self.ledger.time(kind, self._measured_before(plan) or 0.0)
        return self.ledger.seconds[kind]

    def ratio(self, plan: TreatmentPlan) -> float:
        """Of a step under the plan to one of the patient as it is."""
        return self.seconds(plan) / self.seconds(TreatmentPlan())

    def _measured(self, plan: TreatmentPlan) -> float | None:
        """The least of some repeats: what disturbs a clock only adds to it."""
        with one_thread(), seeded(self.seed), quietly():
            try:
                patient = under(self.patient, plan)
                model, optimizer = prepared(patient, plan, self.seed)
                batches = Batches(patient, self.seed)
                train_under(patient, plan, model, optimizer, batches, _WARM_STEPS)
                times = []
                for _ in range(_REPEATS):
                    begin = time.perf_counter()
                    train_under(patient, plan, model, optimizer, batches, _TIMED_STEPS)
                    times.append((time.perf_counter() - begin) / _TIMED_STEPS)
            except Exception:  # whatever a user's code raises: the training will say it
                return None
        return min(times)

    def _measured_before(self, plan: TreatmentPlan) -> float | None:
        with one_thread(), seeded(self.seed), quietly():
            try:
                patient = under(self.patient, plan)
                model, _ = prepared(patient, plan, self.seed)
                begin = time.perf_counter()
                prelude(patient, plan, model, self.seed)
            except Exception:  # the training will say it
                return None
        return time.perf_counter() - begin
