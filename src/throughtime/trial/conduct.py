"""A trial in its parts: the baseline, treatments one against another, random search, and the proof on fresh seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import Course, CourseResult, run_course
from throughtime.trial.engine import Engine
from throughtime.trial.halving import Arm, Standing, searched
from throughtime.trial.statistics import paired_p, sign_p
from throughtime.trial.timing import StepTimes

__all__ = ["BASELINE", "FRESH", "Confirmation", "Trial", "cured", "decided"]

BASELINE = Arm(name="baseline", plan=TreatmentPlan(), source="baseline", reason="the patient as it is")
FRESH = 10
"""Pairs of trainings on seeds that no arm was selected with."""
_CURED = 8
"""Of them, those that have to reach the target."""
_LEVEL = 0.05
_MOST_BEFORE = 0.75
"""Of the compute of a training, what may be spent before its first step."""


def cured(treated: Sequence[bool], untreated: Sequence[bool]) -> bool:
    """Whether enough fresh seeds learn, and significantly more than of the patient as it is.

    Args:
        treated: for each fresh seed, whether it learned.
        untreated: on the same seeds.
    """
    return sum(treated) >= _CURED and paired_p(treated, untreated) < _LEVEL


def decided(treated: Sequence[bool], untreated: Sequence[bool]) -> bool | None:
    """What `cured` will say of all ten pairs, as soon as nothing that is not known yet can change it; None before.

    Args:
        treated: of the first fresh seeds, as far as they are known.
        untreated: likewise.

    Example:
        >>> decided([False] * 3, []), decided([True] * 10, [False] * 4), decided([True] * 10, [False] * 5)
        (False, None, True)
    """
    without, beside = FRESH - len(treated), FRESH - len(untreated)
    worst = cured([*treated, *[False] * without], [*untreated, *[True] * beside])
    best = cured([*treated, *[True] * without], [*untreated, *[False] * beside])
    return worst if worst == best else None


class Confirmation:
    """An arm against the baseline on fresh seeds.

    Args:
        treated: results of the arm.
        untreated: results of the baseline on the same seeds.
        has_target: whether "learned" means anything.
        kept_seed: the fresh seed whose weights were kept; None where none were.
    """

    def __init__(
        self,
        treated: Sequence[CourseResult],
        untreated: Sequence[CourseResult],
        *,
        has_target: bool,
        kept_seed: int | None = None,
    ) -> None:
        self.treated, self.untreated, self.kept_seed = tuple(treated), tuple(untreated), kept_seed
        pairs = list(zip(_values(treated), _values(untreated), strict=True))
        self.p_score = sign_p(sum(a > b for a, b in pairs), sum(a < b for a, b in pairs))
        self.p_learned = paired_p([r.learned for r in treated], [r.learned for r in untreated])
        self.num_learned = sum(result.learned for result in treated)
        self.cured = has_target and cured([r.learned for r in treated], [r.learned for r in untreated])
        self.better = self.p_score < _LEVEL
        self.p = self.p_learned if has_target else self.p_score


class Trial:
    """Trains arms with equal compute and the same seeds.

    Args:
        engine: runs trainings.
        times: of steps.
        seeds: that arms are selected with.
        fresh_seeds: that the best one is confirmed with.
        num_steps: updates of the patient as it is.
        target: the score that means "learned", or None.
    """

    def __init__(
        self,
        engine: Engine,
        times: StepTimes,
        *,
        seeds: Sequence[int],
        fresh_seeds: Sequence[int],
        num_steps: int,
        target: float | None,
    ) -> None:
        self.engine, self.times = engine, times
        self.seeds, self.fresh_seeds = tuple(seeds), tuple(fresh_seeds)
        self.num_steps, self.target, self.has_target = num_steps, target, target is not None

    def steps(self, arm: Arm) -> int:
        """Updates that take as long as all of the baseline's."""
        before = self.times.seconds_before(arm.plan) / self.times.seconds(TreatmentPlan())
        return max(1, round((self.num_steps - before) / self.times.ratio(arm.plan)))

    def affordable(self, arm: Arm) -> bool:
        """Whether what it does before the first step leaves some of the compute for training."""
        whole = self.num_steps * self.times.seconds(BASELINE.plan)
        return self.times.seconds_before(arm.plan) < _MOST_BEFORE * whole

    def seconds(self, standings: Iterable[Standing]) -> float:
        """Compute of trainings, by the times of steps measured beforehand."""
        return sum(
            len(each.results)
            * (self.steps(each.arm) * self.times.seconds(each.arm.plan) + self.times.seconds_before(each.arm.plan))
            for each in standings
        )

    def run(self, wanted: Sequence[tuple[Arm, int]]) -> list[CourseResult]:
        """Train arms with seeds; the training with the first seed of each is looked at."""
        return self.engine.run(
            [
                Course(plan=arm.plan, seed=seed, num_steps=self.steps(arm), looked_at=seed == self.seeds[0])
                for arm, seed in wanted
            ]
        )

    def baseline(self) -> Standing:
        """The patient as it is, with all seeds."""
        return Standing(BASELINE, tuple(self.run([(BASELINE, seed) for seed in self.seeds])))

    def search(self, arms: Iterable[Arm], most_trainings: int | None = None, *, ranked: bool = False) -> list[Standing]:
        """Arms by successive halving, see `searched`; those that are not affordable are passed over."""
        affordable = (arm for arm in arms if self.affordable(arm))
        return searched(affordable, self.seeds, self.run, most_trainings=most_trainings, ranked=ranked)

    def pair(self, standings: Sequence[Standing]) -> Arm | None:
        """The two best single arms together; None where there is nothing to join."""
        ranked = sorted(standings, key=lambda each: each.merit, reverse=True)[:2]
        if len(ranked) < 2:
            return None
        first, second = (each.arm for each in ranked)
        plan = second.plan.combined_with(first.plan)
        if plan in (first.plan, second.plan):
            return None
        return Arm(name=f"{first.name} + {second.name}", plan=plan, source="pair", reason="the two best ones together")

    def best(self, standings: Sequence[Standing]) -> Standing | None:
        """Of the arms with all seeds, the one that is to be confirmed; None where none has a score.

        Of arms with which equally many seeds learn, what was prescribed goes before what was drawn.
        """
        whole = [each for each in standings if len(each.results) == len(self.seeds) and each.share_scored > 0]

        def order(each: Standing) -> tuple[object, ...]:
            learned, scored, score = each.merit
            return learned, each.arm.source != "random" if self.has_target else True, scored, score

        return max(whole, key=order, default=None)

    def confirm(self, arm: Arm, keep: Path | None = None) -> Confirmation:
        """The arm and the baseline on fresh seeds.

        Args:
            arm: the best one.
            keep: a file for the weights of the first fresh seed that learned (that has a score, where there is no
                target); None for none.
        """
        treated = [
            Course(
                plan=arm.plan,
                seed=seed,
                num_steps=self.steps(arm),
                keep=None if keep is None else str(keep.with_name(f"{keep.stem}-{seed}{keep.suffix}")),
            )
            for seed in self.fresh_seeds
        ]
        untreated = [Course(plan=BASELINE.plan, seed=seed, num_steps=self.steps(BASELINE)) for seed in self.fresh_seeds]
        results = self.engine.run([course for pair in zip(treated, untreated, strict=True) for course in pair])
        kept = None if keep is None else self._kept(treated, results[::2], keep)
        return Confirmation(results[::2], results[1::2], has_target=self.has_target, kept_seed=kept)

    def _kept(self, courses: Sequence[Course], results: Sequence[CourseResult], keep: Path) -> int | None:
        """Of the weights of all fresh seeds, those of the first that learned go into the file; returns its seed."""
        good = [
            course
            for course, result in zip(courses, results, strict=True)
            if (result.learned if self.has_target else result.score is not None)
        ]
        paths = {course: Path(course.keep or "") for course in courses}
        if good:
            if not keep.exists() and not paths[good[0]].exists():
                run_course(self.engine.patient, good[0])  # the ledger has its score, and its weights are lost
            if paths[good[0]].exists():
                paths[good[0]].replace(keep)
        else:
            keep.unlink(missing_ok=True)  # those of an earlier trial
        for path in paths.values():
            path.unlink(missing_ok=True)
        return good[0].seed if good else None


def _values(results: Sequence[CourseResult]) -> list[float]:
    """Scores to be compared; one that is not there is worse than any."""
    return [float("-inf") if result.score is None else result.score for result in results]
