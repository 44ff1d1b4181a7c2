"""From a diagnosis, or from what the user wants to be tried, to the arms of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from throughtime.diagnosis import Diagnosis
from throughtime.errors import InputError
from throughtime.measurement import WatchRecord
from throughtime.remedy import (
    PatientEvidence,
    PatientFacts,
    Prescription,
    Remedy,
    TreatmentPlan,
    facts_of,
    prescribe,
    remedy,
)
from throughtime.trial.course import misfit
from throughtime.trial.halving import Arm
from throughtime.trial.outcome import Findings
from throughtime.trial.patient import Batches, Patient, option
from throughtime.trial.stages import in_turns
from throughtime.trial.surroundings import quietly, seeded

__all__ = ["Choices", "Remedies", "check_remedies", "choices_for", "facts_about"]

Remedies = Prescription | Mapping[str, TreatmentPlan] | Sequence[TreatmentPlan | Remedy | str]
"""What a user may want to be tried: a prescription, plans, with names or without, remedies, or names of remedies."""


@dataclass(frozen=True)
class Choices:
    """What a trial is to try.

    Attributes:
        arms: the likelier ones first.
        findings: what was known of the patient.
        notes: what was left out, since it cannot be applied to the patient, and why.
        needs_a_hand: whether something was found that is changed by hand or not at all.
    """

    arms: tuple[Arm, ...]
    findings: Findings
    notes: tuple[str, ...] = ()
    needs_a_hand: bool = False


def check_remedies(remedies: Remedies | None) -> None:
    """Say what is no treatment before anything is trained.

    Raises:
        InputError: if something is neither a plan nor a remedy.
        RecipeError: if a name is not one of a remedy.
    """
    if remedies is None or isinstance(remedies, Prescription):
        return
    for each in remedies.values() if isinstance(remedies, Mapping) else remedies:
        if isinstance(each, str):
            remedy(each)
        elif not isinstance(each, TreatmentPlan | Remedy):
            raise InputError(
                f"{type(each).__name__} is no treatment: expected a TreatmentPlan, or a remedy or its name"
            )


def choices_for(
    patient: Patient,
    seed: int,
    diagnosis: Diagnosis | None,
    watched: WatchRecord | None,
    remedies: Remedies | None,
) -> Choices:
    """The arms of a trial.

    Args:
        patient: built and looked at for `seed`.
        seed: see there.
        diagnosis: of the patient; without one only `remedies` are tried.
        watched: what was seen of its training, or None.
        remedies: what the user wants to be tried; what the diagnosis suggests unless given.
    """
    known = diagnosis or Diagnosis(values=(), not_checked={}, ignored=(), horizons={}, notes=())
    chosen: Remedies = prescribe(known, facts_about(patient, seed, watched)) if remedies is None else remedies
    codes = tuple(finding.code for finding in known.findings if finding.severity == "error")
    by_hand: tuple[str, ...] = ()
    needs_a_hand = False
    if isinstance(chosen, Prescription):
        by_hand = tuple(str(step) for step in chosen.steps if not step.is_automatic)
        needs_a_hand = not {step.code for step in chosen.steps} <= {step.code for step in chosen.automatic}
        arms = _prescribed(chosen)
    elif isinstance(chosen, Mapping):
        arms = [_asked_for(name, plan, None) for name, plan in chosen.items()]
    else:
        evidence = PatientEvidence(known, facts_about(patient, seed, watched))
        arms = [_asked_for(None, each, evidence) for each in chosen]
    reasons = {arm: _changes_nothing(patient, arm.plan) or misfit(patient, arm.plan, seed) for arm in _different(arms)}
    return Choices(
        arms=tuple(arm for arm, why in reasons.items() if not why),
        findings=Findings(codes, dict(known.horizons), by_hand, known.censored),
        notes=tuple(f"'{arm.name}' does not fit: {why}" for arm, why in reasons.items() if why),
        needs_a_hand=needs_a_hand,
    )


def _changes_nothing(patient: Patient, plan: TreatmentPlan) -> str:
    """Why a plan leaves all as it is; empty where it does not."""
    cut = option(patient, "window") is not None and option(patient, "train") is None
    carried = cut and plan == TreatmentPlan(carry=True)
    return "the state is carried from window to window as it is" if carried else ""


def facts_about(patient: Patient, seed: int, watched: WatchRecord | None = None) -> PatientFacts:
    """What remedies have to know of a patient, from a freshly built model and its first batch."""
    with seeded(seed), quietly():
        model, optimizer = patient.build(seed)
        inputs, _ = next(Batches(patient, seed))
        return facts_of(
            model,
            inputs,
            optimizer=optimizer,
            window=option(patient, "window"),
            time_dim=option(patient, "time_dim"),
            watch=watched,
        )


def _prescribed(prescription: Prescription) -> list[Arm]:
    """The findings in turns."""
    by_code: dict[str, list[Arm]] = {}
    for step in prescription.automatic:
        arm = Arm(
            name=step.title,
            plan=step.treatment,
            source="prescribed",
            reason=f"{step.code}: {step.why}",
            predicted_reach=step.reach_after,
        )
        by_code.setdefault(step.code, []).append(arm)
    return in_turns(list(by_code.values()))


def _asked_for(name: str | None, wanted: object, evidence: PatientEvidence | None) -> Arm:
    """An arm that the user named."""
    if isinstance(wanted, str):
        wanted = remedy(wanted)
    if isinstance(wanted, Remedy) and evidence is not None:
        return Arm(
            name=wanted.title,
            plan=wanted.apply(TreatmentPlan(), evidence),
            source="prescribed",
            reason="asked for",
            predicted_reach=wanted.predict(evidence),
        )
    assert isinstance(wanted, TreatmentPlan)
    return Arm(name=name or wanted.words, plan=wanted, source="prescribed", reason="asked for")


def _different(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Each plan once, and no name twice."""
    kept: dict[TreatmentPlan, Arm] = {TreatmentPlan(): arms[0]} if arms else {}
    names: dict[str, int] = {}
    for arm in arms:
        if arm.plan in kept:
            continue
        names[arm.name] = names.get(arm.name, 0) + 1
        number = names[arm.name]
        kept[arm.plan] = arm if number == 1 else Arm(**{**vars(arm), "name": f"{arm.name} ({number})"})
    return tuple(arm for plan, arm in kept.items() if plan.changes)
