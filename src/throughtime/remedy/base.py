"""What a remedy is: a change of a plan, by what was found of a patient; it touches no live model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from throughtime.diagnosis import CODES, Diagnosis
from throughtime.remedy.facts import PatientFacts, RecurrenceFacts
from throughtime.remedy.plan import TreatmentPlan

__all__ = ["PatientEvidence", "Remedy"]

_DEFAULT_LAG = 100


@dataclass(frozen=True)
class PatientEvidence:
    """What a remedy goes by.

    Attributes:
        diagnosis: the findings, with their numbers.
        facts: of the patient.
    """

    diagnosis: Diagnosis
    facts: PatientFacts = field(default_factory=PatientFacts)

    def number(self, name: str, *codes: str) -> float | None:
        """A number in the evidence of the first finding with one of these codes that has it; of any code without."""
        for finding in self.diagnosis.findings:
            if not codes or finding.code in codes:
                value = finding.evidence.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return float(value)
        return None

    def has_found(self, *codes: str) -> bool:
        """Whether one of these was found."""
        return any(finding.code in codes for finding in self.diagnosis.findings)

    @property
    def need(self) -> int | None:
        """Steps that the data needs, where that is known."""
        known = self.diagnosis.horizons.get("need")
        found = self.number("need") if known is None else known
        return None if found is None else int(found)

    @property
    def reach(self) -> int | None:
        """Steps that the gradient reaches now, where that was measured."""
        known = self.diagnosis.horizons.get("reach")
        found = self.number("reach") if known is None else known
        return None if found is None else int(found)

    @property
    def lag(self) -> int:
        """What to prepare for: the need, or else the whole of a sequence, or 100 steps."""
        if self.need:
            return max(2, self.need + 1)
        return max(2, self.facts.num_steps or _DEFAULT_LAG)

    @property
    def main(self) -> RecurrenceFacts | None:
        """The recurrent module that a prediction speaks of: the last one, which is nearest to the outputs."""
        return self.facts.recurrences[-1] if self.facts.recurrences else None


def _nowhere(_: PatientEvidence) -> int | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A treatment of some findings.

    Attributes:
        name: by which it is asked for.
        title: a few words for a table.
        treats: codes of findings.
        fits: whether a patient has what it changes.
        change: the fields of the plan that it sets, by what was found.
        reaches: steps that the gradient reaches after it, by the formula alone; None where there is none.
        predicts: that formula in words; "" where there is none.
        cost: in time or in anything else.
        paper: authors, year, where.
        does_not_help: when not to take it.
    """

    name: str
    title: str
    treats: tuple[str, ...]
    fits: Callable[[PatientFacts], bool]
    change: Callable[[PatientEvidence], Mapping[str, Any]]
    reaches: Callable[[PatientEvidence], int | None] = _nowhere
    predicts: str = ""
    cost: str
    paper: str
    does_not_help: str

    def __post_init__(self) -> None:
        assert set(self.treats) <= set(CODES), self.treats

    def applies_to(self, facts: PatientFacts | None) -> bool:
        """Whether it changes anything in such a patient; of one that nothing is known of, it is supposed to."""
        return facts is None or self.fits(facts)

    def apply(self, plan: TreatmentPlan, evidence: PatientEvidence) -> TreatmentPlan:
        """The plan with this treatment in it."""
        return plan.changed(**self.change(evidence))

    def predict(self, evidence: PatientEvidence) -> int | None:
        """Steps that the gradient reaches after it, before anything is measured; at most the length of a sequence."""
        found = self.reaches(evidence)
        longest = evidence.facts.num_steps
        return found if found is None or longest is None else min(found, longest - 1)
