"""What a trial found: which treatment cures, how sure that is, and what it would take in one's own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from throughtime.remedy import TreatmentPlan
from throughtime.storage import Record
from throughtime.trial.looks import Looks
from throughtime.trial.statistics import wilson

__all__ = ["ArmRecord", "ProofRecord", "Treatment", "best_at_random"]


@dataclass(frozen=True)
class ArmRecord:
    """One arm of a trial.

    Attributes:
        name: for a person.
        source: "baseline", "prescribed", "pair" or "random".
        reason: why it was tried.
        plan: the treatment.
        num_learned: of the seeds that it was trained with, those that reached the target.
        num_seeds: seeds that it was trained with; fewer than all where it was dropped.
        interval: Wilson's 95 % interval of that share.
        scores: by seed, None where a training failed.
        failures: why trainings failed, each reason once.
        reach: of the gradient at the start, in steps; None where it cannot be told.
        predicted_reach: the same from a formula, before anything was measured.
        num_steps: updates of each training.
        step_ratio: time of a step, that of the baseline being 1.
        p: of the exact one-sided test against the baseline on the same seeds.
        p_corrected: the same, corrected for the number of arms by Holm's method.
        fresh_scores: by fresh seed; empty for arms that no proof was about.
        num_fresh_learned: of the fresh seeds, those that reached the target.
        seeds: that it was selected with, in the order of `scores`; those of a proof that had failed among them.
        fresh_seeds: those of its proof; of the baseline, of all proofs.
        looks: at the training with the first seed; None in records of trials that took none.
    """

    name: str
    source: str
    reason: str
    plan: TreatmentPlan
    num_learned: int
    num_seeds: int
    interval: tuple[float, float]
    scores: tuple[float | None, ...]
    failures: tuple[str, ...]
    reach: int | None
    predicted_reach: int | None
    num_steps: int
    step_ratio: float
    p: float | None
    p_corrected: float | None
    fresh_scores: tuple[float | None, ...] = ()
    num_fresh_learned: int = 0
    seeds: tuple[int, ...] = ()
    fresh_seeds: tuple[int, ...] = ()
    looks: Looks | None = None

    @property
    def mean_score(self) -> float | None:
        """Over all trainings that have a score."""
        known = [score for score in (*self.scores, *self.fresh_scores) if score is not None]
        return sum(known) / len(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, with tuples, as a record holds them."""
        return {
            **vars(self),
            "plan": self.plan.changes,
            "looks": None if self.looks is None else dict(vars(self.looks)),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ArmRecord:
        """Of its fields, as a record holds them; those of older versions have no looks."""
        looks = values.get("looks")
        made = {
            "plan": TreatmentPlan.from_json(dict(values["plan"])),
            "looks": None if looks is None else Looks.from_json(looks),
        }
        return cls(**{**values, **made})


def best_at_random(arms: Sequence[ArmRecord], best_name: str | None) -> ArmRecord | None:
    """Of the plans that were drawn at random, that which did best; None where none was drawn."""

    def order(arm: ArmRecord) -> tuple[bool, float, int]:
        return arm.name == best_name, arm.num_learned / arm.num_seeds, arm.num_seeds

    return max((arm for arm in arms if arm.source == "random"), key=order, default=None)


def _told(arm: ArmRecord) -> str:
    """Its name; of a plan that was drawn, what is in it too."""
    drawn = f" ({arm.plan.words})" if arm.source == "random" else ""
    return f"'{arm.name}'{drawn}"


@dataclass(frozen=True)
class ProofRecord:
    """One look at fresh seeds.

    Attributes:
        name: of the arm.
        seeds: that nothing had been chosen with.
        level: that p must not exceed; those of all proofs add up to 0.05.
        num_learned: of them, with the treatment.
        num_untreated: without it.
        p: of the exact one-sided test.
        passed: whether it shows a cure, or, where there is no target, higher scores.
    """

    name: str
    seeds: tuple[int, ...]
    level: float
    num_learned: int
    num_untreated: int
    p: float
    passed: bool

    def told(self, *, has_target: bool) -> str:
        """In words."""
        counts = f"{self.num_learned} of {len(self.seeds)} learn, as it is {self.num_untreated}; "
        return (
            f"'{self.name}' on the fresh seeds {self.seeds[0]} to {self.seeds[-1]}: "
            f"{counts if has_target else ''}p = {self.p:.2g}, which may be {self.level:g} at most"
        )


@dataclass(frozen=True)
class Treatment(Record):
    """The outcome of `throughtime.treat`; `print` it.

    Attributes:
        values: the arms' fields, the baseline first.
        best_name: the arm of the proof that is reported, see `proofs`; None where there was none.
        target: the score that means "learned", or None.
        cured: whether at least 8 of 10 fresh seeds reach the target, and significantly more than of the baseline.
        better: whether the scores on fresh seeds are significantly higher than the baseline's.
        p: of that on fresh seeds; None where there was no proof.
        seeds: that arms were selected with.
        fresh_seeds: of all proofs.
        codes: errors of the diagnosis.
        horizons: need, reach and use in steps, as far as they were measured.
        step_seconds: of the patient as it is, measured alone.
        prescribed_seconds: compute of the prescribed arms and their pair.
        random_seconds: compute of random search.
        by_hand: what cannot be applied automatically: the line of code to change and why.
        notes: what its reader should know.
        tests: the proofs' fields, at most two; the second one is of another arm on other seeds.
        censored: those of the horizons that may be larger than what was seen.
    """

    record_kind: ClassVar[str] = "treatment"
    schema_version: ClassVar[int] = 1

    values: tuple[dict[str, Any], ...]
    best_name: str | None
    target: float | None
    cured: bool
    better: bool
    p: float | None
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    codes: tuple[str, ...]
    horizons: dict[str, int | None]
    step_seconds: float
    prescribed_seconds: float
    random_seconds: float
    by_hand: tuple[str, ...]
    notes: tuple[str, ...]
    tests: tuple[dict[str, Any], ...] = ()
    censored: tuple[str, ...] = ()

    @classmethod
    def of(cls, arms: list[ArmRecord], proofs: list[ProofRecord], **rest: Any) -> Treatment:
        """With arms and proofs in their order."""
        tests = tuple(dict(vars(each)) for each in proofs)
        return cls(values=tuple(arm.to_json() for arm in arms), tests=tests, **rest)

    @property
    def arms(self) -> tuple[ArmRecord, ...]:
        """The baseline first."""
        return tuple(map(ArmRecord.from_json, self.values))

    @property
    def proofs(self) -> tuple[ProofRecord, ...]:
        """The looks at fresh seeds, in their order."""
        return tuple(ProofRecord(**values) for values in self.tests)

    @property
    def baseline(self) -> ArmRecord:
        """The patient as it is."""
        return self.arms[0]

    @property
    def best(self) -> ArmRecord:
        """The arm of the proof that is reported; the baseline where there was none."""
        return next((arm for arm in self.arms if arm.name == self.best_name), self.baseline)

    @property
    def proven(self) -> bool:
        """Whether there is a cure, or, where no target is known, something better than the patient as it is."""
        return self.cured or (self.target is None and self.better)

    @property
    def nothing_to_treat(self) -> bool:
        """Whether the patient learns with every seed as it is."""
        return self.target is not None and self.baseline.num_learned == len(self.seeds)

    @property
    def code(self) -> str:
        """The best treatment as plain PyTorch, as far as it is that; see `TreatmentPlan.code`."""
        return self.best.plan.code

    @property
    def table(self) -> str:
        """An arm a line."""
        need = self.horizons.get("need")
        rows = [(arm.name, *self._cells(arm)) for arm in self.arms if arm.source != "random"]
        drawn = best_at_random(self.arms, self.best_name)
        if drawn is not None:
            num_plans = sum(arm.source == "random" for arm in self.arms)
            rows.append((f"random search, same compute ({num_plans} plans)", *self._cells(drawn)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)) + f"  {row[3]}"
            for row in rows
        ]
        least = "at least " * ("need" in self.censored)
        head = [] if need is None else [f"the data need {least}{need} steps"]
        return "\n".join(line.rstrip() for line in [*head, *lines])

    def _cells(self, arm: ArmRecord) -> tuple[str, str, str]:
        score = "no score" if arm.mean_score is None else f"score {arm.mean_score:.4g}"
        if self.target is None:
            learned = f"{score}, {arm.num_seeds} seeds"
        else:
            learned = f"{arm.num_learned}/{arm.num_seeds} seeds learn"
        if arm.fresh_scores and self.target is not None:
            learned += f", fresh seeds {arm.num_fresh_learned}/{len(arm.fresh_scores)}"
        reach = "" if arm.reach is None else f"reach {arm.reach}"
        return learned, reach, self._remark(arm)

    def _remark(self, arm: ArmRecord) -> str:
        if arm.name != self.best_name:
            return f"({arm.failures[0]})" if arm.failures and arm.num_learned == 0 else ""
        time = f", {arm.step_ratio:.1f} x the time a step" if abs(arm.step_ratio - 1) > 0.05 else ""
        number = ", second proof" if len(self.tests) > 1 and self.tests[-1]["name"] == arm.name else ""
        if self.cured:
            return f"<- cured (p = {self.p:.2g}{number}){time}"
        if self.better:
            return f"<- better than the baseline (p = {self.p:.2g}{number}){time}"
        return f"<- the best, not proven (p = {self.p:.2g}{number}){time}"

    @property
    def verdict(self) -> str:
        """One sentence."""
        baseline, best = self.baseline, self.best
        if self.best_name is None:
            return self._nothing_confirmed
        if self.cured:
            low, high = wilson(best.num_fresh_learned, len(best.fresh_scores))
            untreated = next((each.num_untreated for each in self.proofs if each.passed), baseline.num_fresh_learned)
            return (
                f"cured: with {_told(best)} {best.num_fresh_learned} of {len(best.fresh_scores)} fresh seeds learn "
                f"({low:.0%} to {high:.0%}), as it is {untreated} (p = {self.p:.2g})"
            )
        if self.better:
            return f"better than the baseline with {_told(best)} on fresh seeds (p = {self.p:.2g})" + (
                "; no target is known, so no more can be said" if self.target is None else "; not cured"
            )
        return f"not proven: {_told(best)} did best, and fresh seeds do not show that it is better (p = {self.p:.2g})"

    @property
    def _nothing_confirmed(self) -> str:
        """Why no arm came as far as the fresh seeds."""
        if self.nothing_to_treat:
            return "there is nothing to treat: the patient learns with every seed as it is"
        tried = self.arms[1:]
        if not tried:
            by_hand = ": what was found is to be changed by hand" if self.by_hand else ""
            return f"nothing was tried: no plan changes what was found{by_hand}"
        scored = [(max(known), arm.name) for arm in tried if (known := [s for s in arm.scores if s is not None])]
        if not scored:
            failures = Counter(reason for arm in tried for reason in arm.failures)
            return f"not proven: none of {len(tried)} treatments gave a score ({failures.most_common(1)[0][0]})"
        score, name = max(scored)
        if self.target is None:
            return (
                f"not proven: no treatment gave a score with all of its seeds; the best was {score:.4g}, with '{name}'"
            )
        return (
            f"not proven: none of {len(tried)} treatments reached the target of {self.target:g} with any seed; "
            f"the best score was {score:.4g}, with '{name}'"
        )

    def __str__(self) -> str:
        lines = [self.table, "", self.verdict]
        if len(self.proofs) > 1:
            told = [proof.told(has_target=self.target is not None) for proof in self.proofs]
            lines += ["", "there were two proofs:", *(f"  {line}" for line in told)]
        if self.by_hand:
            lines += ["", "to be changed by hand:", *(f"  {line}" for line in self.by_hand)]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)
