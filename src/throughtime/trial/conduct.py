"""A trial in its parts: the baseline, treatments one against another, random search, and the proof on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import Course, CourseResult, holds, misfit, run_course
from throughtime.trial.engine import Engine
from throughtime.trial.halving import BRACKET, Arm, Standing, searched
from throughtime.trial.proof import FRESH, LEVELS, Proof
from throughtime.trial.timing import StepTimes

__all__ = ["BASELINE", "Trial"]

BASELINE = Arm(name="baseline", plan=TreatmentPlan(), source="baseline", reason="the patient as it is")
_MOST_BEFORE = 0.75
"""Of the compute of a training, what may be spent before its first step."""
_ENOUGH = 0.9
"""Of the seeds of a second selection, those that have to learn before nothing else is tried: they are many."""


class Trial:
    """Trains arms with equal compute and the same seeds: one selection, and the proof of what it chose.

    Args:
        engine: runs trainings.
        times: of steps.
        seeds: that arms are selected with; the reach of the gradient is measured with the first of them.
        num_steps: whole steps (see `StepTimes`) that the compute of a training is worth.
        target: the score that means "learned", or None.
        round_number: of this selection and its proof, 0 or 1.
    """

    def __init__(
        self,
        engine: Engine,
        times: StepTimes,
        *,
        seeds: Sequence[int],
        num_steps: int,
        target: float | None,
        round_number: int = 0,
    ) -> None:
        self.engine, self.times = engine, times
        self.seeds, self.round_number = tuple(seeds), round_number
        self.num_steps, self.target, self.has_target = num_steps, target, target is not None
        self.fresh_seeds = tuple(range(max(seeds) + 1, max(seeds) + 1 + FRESH))
        self.level = LEVELS[round_number]

    @property
    def enough(self) -> int:
        """Seeds that have to learn before nothing else is tried."""
        return len(self.seeds) if self.round_number == 0 else math.ceil(_ENOUGH * len(self.seeds))

    @property
    def compute(self) -> float:
        """Of a training, of whatever arm, in seconds."""
        return self.num_steps * self.times.unit

    def steps(self, arm: Arm) -> int:
        """Updates that the compute of a training allows."""
        before = self.times.seconds_before(arm.plan)
        return max(1, round((self.compute - before) / self.times.seconds(arm.plan)))

    def affordable(self, arm: Arm) -> bool:
        """Whether what it does before the first step leaves some of the compute for training."""
        return self.times.seconds_before(arm.plan) < _MOST_BEFORE * self.compute

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
        return Standing(BASELINE, self.seeds, tuple(self.run([(BASELINE, seed) for seed in self.seeds])))

    def search(self, arms: Iterable[Arm], most_trainings: int | None = None, *, ranked: bool = False) -> list[Standing]:
        """Arms by successive halving, see `searched`; those that are not affordable are passed over."""
        affordable = (arm for arm in arms if self.affordable(arm))
        return searched(
            affordable, self.seeds, self.run, most_trainings=most_trainings, ranked=ranked, enough=self.enough
        )

    def found(self, standings: Iterable[Standing]) -> bool:
        """Whether nothing else has to be tried."""
        return any(each.num_learned >= self.enough for each in standings)

    def pairs(self, standings: Sequence[Standing]) -> list[Arm]:
        """The best arm together with the next one that adds to it.

        Where no seed has learned with any, the scores are noise as to which one adds, so the best is joined with
        several, those that were likelier at first.
        """
        ranked = sorted(standings, key=lambda each: each.merit, reverse=True)
        lost = self.has_target and all(each.num_learned == 0 for each in ranked)
        others = [each.arm for each in (standings if lost else ranked) if each not in ranked[:1]]
        found: dict[TreatmentPlan, Arm] = {}
        for second in others:
            first = ranked[0].arm
            plan = self._together(first.plan, second.plan)
            if plan not in (None, first.plan, second.plan):
                name = f"{first.name} + {second.name}"
                found.setdefault(plan, Arm(name=name, plan=plan, source="pair", reason="what did best, with another"))
        return list(found.values())[: BRACKET if lost else 1]

    def _together(self, best: TreatmentPlan, other: TreatmentPlan) -> TreatmentPlan | None:
        """Both; where both choose, as the best one does or, where that does not fit, as the other; else None."""
        plans = (other.combined_with(best), best.combined_with(other))
        return next((plan for plan in plans if not misfit(self.engine.patient, plan, self.seeds[0])), None)

    def best(self, standings: Sequence[Standing]) -> Standing | None:
        """Of the arms with all seeds, the one that is to be confirmed; None where none has a score.

        Of arms with which equally many seeds learn, what was prescribed goes before what was drawn.
        """
        whole = [each for each in standings if len(each.results) == len(self.seeds) and each.share_scored > 0]

        def order(each: Standing) -> tuple[object, ...]:
            learned, scored, score = each.merit
            return learned, each.arm.source != "random" if self.has_target else True, scored, score

        return max(whole, key=order, default=None)

    def proof(self, arm: Arm, keep: Path | None = None, *, sparing: bool = False) -> Proof:
        """The arm and the baseline on fresh seeds.

        Args:
            arm: the best one.
            keep: a file beside which the weights of each fresh seed are left until `kept` has chosen one of them; None
                for none.
            sparing: whether trainings are left out that can no longer change the outcome.
        """
        treated = [self._fresh(arm, seed, keep) for seed in self.fresh_seeds]
        untreated = [self._fresh(BASELINE, seed) for seed in self.fresh_seeds]
        if sparing:
            return self._spared(arm, treated, untreated)
        results = self.engine.run([course for pair in zip(treated, untreated, strict=True) for course in pair])
        return self._proof(arm, results[::2], results[1::2])

    def _fresh(self, arm: Arm, seed: int, keep: Path | None = None) -> Course:
        path = None if keep is None else str(keep.with_name(f"{keep.stem}-{seed}{keep.suffix}"))
        return Course(plan=arm.plan, seed=seed, num_steps=self.steps(arm), keep=path)

    def _proof(self, arm: Arm, treated: Sequence[CourseResult], untreated: Sequence[CourseResult]) -> Proof:
        return Proof(arm, self.fresh_seeds, self.level, tuple(treated), tuple(untreated), self.has_target)

    def _spared(self, arm: Arm, treated: Sequence[Course], untreated: Sequence[Course]) -> Proof:
        proof = self._proof(arm, (), ())
        for course in treated:
            if proof.decided is None:
                proof = self._proof(arm, (*proof.treated, *self.engine.run([course])), ())
        for course in untreated:
            if proof.decided is None:
                proof = self._proof(arm, proof.treated, (*proof.untreated, *self.engine.run([course])))
        return proof

    def after(self, failed: Proof) -> tuple[Trial, Standing]:
        """One more try, and how what failed stands in it.

        The seeds of the proof are known now, so they join those of the selection: behind the first one, with which the
        reach is measured, those come that the failed treatment did not learn, since they tell the most of others.
        """
        results = self.engine.run([self._fresh(failed.arm, seed) for seed in failed.seeds])
        missed = [seed for seed, each in zip(failed.seeds, results, strict=True) if not each.learned]
        others = [seed for seed in failed.seeds if seed not in missed]
        again = Trial(
            self.engine,
            self.times,
            seeds=(self.seeds[0], *missed, *others, *self.seeds[1:]),
            num_steps=self.num_steps,
            target=self.target,
            round_number=self.round_number + 1,
        )
        before = Standing(failed.arm, self.seeds, tuple(self.run([(failed.arm, seed) for seed in self.seeds])))
        return again, before.joined(failed.seeds, results)

    def kept(self, proof: Proof, keep: Path, proofs: Sequence[Proof]) -> int | None:
        """Of the weights that proofs have left, those of the first fresh seed that learned go into the file.

        Where there is no target, those of the first that has a score.

        Args:
            proof: of whose seeds; where none is good, the file of an earlier trial goes.
            keep: the file.
            proofs: all of them, whose other weights go.

        Returns:
            The seed; None where there is none.
        """
        good = [
            self._fresh(proof.arm, seed, keep)
            for seed, result in zip(proof.seeds, proof.treated, strict=True)
            if (result.learned if self.has_target else result.score is not None)
        ]
        if good:
            path = Path(good[0].keep or "")
            if not holds(keep, good[0]) and not path.exists():
                run_course(self.engine.patient, good[0])  # the ledger has its score, and its weights are lost
            if path.exists():
                path.replace(keep)
        else:
            keep.unlink(missing_ok=True)
        for each in proofs:
            for seed in each.seeds:
                Path(self._fresh(each.arm, seed, keep).keep or "").unlink(missing_ok=True)
        return good[0].seed if good else None
