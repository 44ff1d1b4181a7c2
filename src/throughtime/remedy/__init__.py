"""Remedies: what treats a finding, as a change of a plan; which one to take first, and why."""

from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.clipping import Clipper
from throughtime.remedy.facts import PatientFacts, RecurrenceFacts, facts_of
from throughtime.remedy.finiteness import all_finite
from throughtime.remedy.flossing import floss
from throughtime.remedy.omega import Omega
from throughtime.remedy.plan import LOOP_FIELDS, TreatmentPlan
from throughtime.remedy.prescription import LAST_RESORTS, REASONS, Prescribed, Prescription, last_resorts, prescribe
from throughtime.remedy.registry import REMEDIES, remedy

__all__ = [
    "LAST_RESORTS",
    "LOOP_FIELDS",
    "REASONS",
    "REMEDIES",
    "Clipper",
    "Omega",
    "PatientEvidence",
    "PatientFacts",
    "Prescribed",
    "Prescription",
    "RecurrenceFacts",
    "Remedy",
    "TreatmentPlan",
    "all_finite",
    "facts_of",
    "floss",
    "last_resorts",
    "prescribe",
    "remedy",
]
