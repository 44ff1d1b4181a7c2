"""What is tried for a patient, look after look: at its start, in training, and at last what helps most often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from throughtime.diagnosis import Diagnosis
from throughtime.measurement import WatchRecord
from throughtime.remedy import TreatmentPlan, last_resorts
from throughtime.trial.halving import BRACKET, Arm
from throughtime.trial.outcome import Findings
from throughtime.trial.patient import Patient
from throughtime.trial.prescribing import Choices, Remedies, choices_for, facts_about

__all__ = ["Attempts", "Examine", "remembered"]

Examined = tuple[Diagnosis, WatchRecord | None]
Examine = Callable[[bool], Examined]
"""At its start or, where it is told so, after a training that was watched: the diagnosis, and what was seen of that."""

_DIAGNOSIS_FILE, _WATCH_FILE = "diagnosis.json", "watch.json"
_IN_TRAINING = "second-"


class Attempts:
    """The arms of one look after the other; what a look takes is done when it is asked for.

    What the first findings ask for; what shows in training only; whatever else was prescribed; and last resorts, where
    a target is known and nothing was found that only a hand can change.

    Args:
        patient: built and looked at for `seed`.
        seed: see there.
        examine: diagnoses it.
        diagnosis: where there is one already.
        remedies: what the user wants to be tried, and nothing else.
        tell: is told what happens, a line each.

    Attributes:
        choices: of the looks so far.
    """

    def __init__(
        self,
        patient: Patient,
        seed: int,
        examine: Examine,
        *,
        diagnosis: Diagnosis | None = None,
        remedies: Remedies | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.patient, self.seed, self.examine = patient, seed, examine
        self.diagnosis, self.remedies, self.tell = diagnosis, remedies, tell
        self.choices: list[Choices] = []

    @property
    def whole_step(self) -> TreatmentPlan:
        """What makes a step of the patient a whole one: that it updates everything, where by mistake it does not."""
        misses = any(arm.plan.all_parameters for arm in self._first[2])
        return TreatmentPlan(all_parameters=True) if misses else TreatmentPlan()

    @property
    def arms(self) -> list[Arm]:
        """All that were chosen so far, each plan once."""
        return list({arm.plan: arm for each in self.choices for arm in each.arms}.values())

    @property
    def notes(self) -> list[str]:
        """What was left out, and why."""
        return list(dict.fromkeys(note for each in self.choices for note in each.notes))

    @property
    def findings(self) -> Findings:
        """What was known of the patient."""
        return Findings.together([each.findings for each in self.choices])

    @cached_property
    def _first(self) -> tuple[Diagnosis | None, WatchRecord | None, Sequence[Arm]]:
        """What is known without a training, and what is to be tried by that."""
        if self.remedies is not None or self.diagnosis is not None:
            found, watched = self.diagnosis, None
        else:
            found, watched = self.examine(False)
        return found, watched, self._chosen(found, watched, self.remedies)

    def __iter__(self) -> Iterator[Sequence[Arm]]:
        found, watched, first = self._first
        if self.remedies is not None or self.diagnosis is not None:
            yield first
        else:
            yield first[:BRACKET]
            found, watched = self.examine(True)
            second = self._chosen(found, watched, None)
            yield second[:BRACKET]
            yield [*first, *second]
        aimed = self.remedies is None and self.patient.target is not None
        if found is not None and aimed and not any(each.needs_a_hand for each in self.choices):
            self.tell("not every seed learns by that: what helps most often is tried")
            yield self._chosen(found, watched, last_resorts(found, facts_about(self.patient, self.seed, watched)))

    def _chosen(self, found: Diagnosis | None, watched: WatchRecord | None, remedies: Remedies | None) -> Sequence[Arm]:
        chosen = choices_for(self.patient, self.seed, found, watched, remedies)
        self.choices.append(chosen)
        self.tell(f"to be tried: {', '.join(arm.name for arm in chosen.arms) or 'nothing that a plan can change'}")
        return chosen.arms


def remembered(examine: Examine, folder: Path | None) -> Examine:
    """The same, which reads again what it had found before it was killed.

    Args:
        examine: see `Examine`.
        folder: for what it finds; None for none.
    """
    if folder is None:
        return examine

    def once(in_training: bool) -> Examined:
        before = _IN_TRAINING if in_training else ""
        told, seen = folder / f"{before}{_DIAGNOSIS_FILE}", folder / f"{before}{_WATCH_FILE}"
        if told.exists():
            return Diagnosis.load(told), WatchRecord.load(seen) if seen.exists() else None
        found, watched = examine(in_training)
        if watched is not None:
            watched.save(seen)
        found.save(told)  # last: with it the look is done
        return found, watched

    return once
