"""From a diagnosis, or from what the user wants to be tried, to the arms of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from throughtime.diagnosis import Diagnosis
from throughtime.errors import InputError
from throughtime.remedy import TreatmentPlan
from throughtime.trial.halving import Arm
from throughtime.trial.outcome import Findings
from throughtime.trial.patient import Patient

__all__ = ["Prescribed", "prescribed_for"]


@dataclass(frozen=True)
class Prescribed:
    """What a trial is to try.

    Attributes:
        arms: the likelier ones first.
        findings: what was known of the patient.
    """

    arms: tuple[Arm, ...]
    findings: Findings


def prescribed_for(
    patient: Patient,
    seed: int,
    diagnosis: Diagnosis | None,
    remedies: Mapping[str, TreatmentPlan] | Sequence[TreatmentPlan] | None,
) -> Prescribed:
    """The arms of a trial.

    Args:
        patient: built and looked at for `seed`.
        seed: see there.
        diagnosis: of the patient; without one only `remedies` are tried.
        remedies: what the user wants to be tried; what the diagnosis suggests unless given.
    """
    codes = () if diagnosis is None else tuple(each.code for each in diagnosis.findings if each.severity == "error")
    horizons = {} if diagnosis is None else dict(diagnosis.horizons)
    findings = Findings(codes, horizons, ())
    return Prescribed(tuple(_asked_for(remedies or {})), findings)


def _asked_for(remedies: Mapping[str, TreatmentPlan] | Sequence[TreatmentPlan]) -> list[Arm]:
    """Raises InputError if one is no plan."""
    named: dict[str, Any] = (
        dict(remedies) if isinstance(remedies, Mapping) else {_name(plan): plan for plan in remedies}
    )
    for name, plan in named.items():
        if not isinstance(plan, TreatmentPlan):
            raise InputError(f"'{name}' is {type(plan).__name__}: expected a TreatmentPlan")
    return [Arm(name=name, plan=plan, source="prescribed", reason="asked for") for name, plan in named.items()]


def _name(plan: Any) -> str:
    changes = plan.changes if isinstance(plan, TreatmentPlan) else {}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changes.items()) or str(plan)
