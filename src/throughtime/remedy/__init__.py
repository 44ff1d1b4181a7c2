"""Remedies: what treats a finding, as a change of a plan; it touches no live model."""

from throughtime.remedy.plan import TreatmentPlan

__all__ = ["TreatmentPlan"]
