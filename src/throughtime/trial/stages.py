"""What is tried one after the other: what was prescribed, look after look, and what did best, together and in doses."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import chain

from throughtime.remedy import TreatmentPlan
from throughtime.trial.conduct import Trial
from throughtime.trial.halving import BRACKET, Arm, Standing, bracket_cost, num_trainings

__all__ = ["Drawn", "Prescribed", "doses", "in_turns"]

_TIMES = 3.0
"""A step of the learning rate: wide enough to tell, narrow enough not to leap over what works."""
_WARM = 0.1
_OTHERS = 2
"""Of what else did well, so many are tried again with the seeds of a proof that failed."""
_BRACKETS_AGAIN = 2
"""A second selection may cost as much as so many: its seeds are many."""


class Prescribed:
    """What was prescribed: look after look, and what did best, together and in doses.

    Args:
        looks: each gives arms, the likelier ones first; the next one is asked for only where nothing has learned.
        learning_rate: of the patient as it is; None where it is not known.
        most_trainings: of the first selection; None for no bound.

    Attributes:
        standings: where everything that was tried stood at last; an arm of both selections stands there twice.
    """

    def __init__(
        self, looks: Iterable[Sequence[Arm]], learning_rate: float | None, most_trainings: int | None = None
    ) -> None:
        self.standings: list[Standing] = []
        self._looks, self._learning_rate, self._most = iter(looks), learning_rate, most_trainings

    def first(self, trial: Trial) -> list[Standing]:
        """Treatments until one learns with every seed; returns where they stood.

        As soon as something learns with most seeds, and at the end in any case, the two best are tried together, and
        the best in other doses.
        """
        refined = False
        for arms in self._looks:
            if self._tried(trial, arms):
                return self.standings
            best = trial.best(self.standings)
            if not refined and best is not None and 2 * best.num_learned > len(trial.seeds):
                refined = True
                if self._refined(trial):
                    return self.standings
        if not refined:
            self._refined(trial)
        return self.standings

    def again(self, trial: Trial, failed: Standing, most_trainings: int | None = None) -> list[Standing]:
        """Other treatments, now that the seeds of a proof are known.

        First what else did well, what failed in other doses and together with another; then the looks that have not
        been asked for; until one learns with enough seeds.

        Args:
            trial: with these seeds among those that it selects with.
            failed: how the treatment that was not proven stands in it; it is not tried again.
            most_trainings: None for no bound but that of a second selection.

        Returns:
            Where those stood that were tried.
        """
        before = [each for each in self.standings if each.arm.plan != failed.arm.plan]
        others = _promising(trial, before)
        known = {failed.arm.plan, *(each.arm.plan for each in before)} - {arm.plan for arm in others}
        spent, most = num_trainings(self.standings), _BRACKETS_AGAIN * bracket_cost(BRACKET, len(trial.seeds))
        found: list[Standing] = []
        left = most = most if most_trainings is None else min(most, most_trainings)
        for number, arms in enumerate(chain([[*others, *self._strengthened(trial, failed, before)]], self._looks)):
            found += trial.search(_unknown(arms, known), left, ranked=number > 0)
            known |= {each.arm.plan for each in found}
            left = most - (num_trainings([*self.standings, *found]) - spent)
            if trial.found(found) or left < len(trial.seeds):
                break
        self.standings += found
        return found

    def _tried(self, trial: Trial, arms: Sequence[Arm], *, ranked: bool = True) -> bool:
        left = None if self._most is None else self._most - num_trainings(self.standings)
        known = {each.arm.plan for each in self.standings}
        self.standings += trial.search(_unknown(arms, known), left, ranked=ranked)
        return trial.found(self.standings)

    def _refined(self, trial: Trial) -> bool:
        best = trial.best(self.standings)
        return self._tried(trial, trial.pairs(self.standings), ranked=False) or (
            best is not None and self._tried(trial, doses(best.arm, self._learning_rate), ranked=False)
        )

    def _strengthened(self, trial: Trial, failed: Standing, before: Sequence[Standing]) -> list[Arm]:
        """What failed, or the best of these where that one was drawn, in other doses and together with another."""
        own = before if failed.arm.source == "random" else [failed, *before]
        best = max(own, key=lambda each: each.merit, default=None)
        return [*(doses(best.arm, self._learning_rate) if best is not None else []), *trial.pairs(own)]


class Drawn:
    """Random search.

    Args:
        arms: without end.

    Attributes:
        standings: as those of `Prescribed`.
    """

    def __init__(self, arms: Iterable[Arm]) -> None:
        self.standings: list[Standing] = []
        self._arms = iter(arms)

    def first(self, trial: Trial, most_trainings: int) -> list[Standing]:
        """Until one learns with every seed."""
        self.standings += trial.search(self._arms, most_trainings)
        return self.standings

    def again(self, trial: Trial, failed: Standing, most_trainings: int) -> list[Standing]:
        """What else did well, and what is drawn next, as in `Prescribed.again`."""
        before = [each for each in self.standings if each.arm.plan != failed.arm.plan]
        found = trial.search(chain(_promising(trial, before), self._arms), most_trainings)
        self.standings += found
        return found


def _promising(trial: Trial, standings: Sequence[Standing]) -> list[Arm]:
    """The best of those that learned with most of the seeds that they had, wherever they were dropped."""
    good = [each for each in standings if 2 * each.num_learned > len(each.results) or not trial.has_target]

    def order(each: Standing) -> tuple[float, ...]:
        learned, scored, score = each.merit
        return learned, scored, len(each.results), score

    return [each.arm for each in sorted(good, key=order, reverse=True)[:_OTHERS]]


def _unknown(arms: Iterable[Arm], known: Container[TreatmentPlan]) -> list[Arm]:
    return [arm for arm in arms if arm.plan not in known]


def doses(arm: Arm, learning_rate: float | None) -> list[Arm]:
    """A treatment with other learning rates, and with its first updates held back.

    Args:
        arm: that did best.
        learning_rate: of the patient as it is; None where it is not known.

    Example:
        >>> from throughtime.remedy import TreatmentPlan
        >>> clip = Arm(name="clip", plan=TreatmentPlan(clip=1.0), source="prescribed")
        >>> [each.plan.learning_rate for each in doses(clip, 0.01)]
        [0.03, 0.00333, 0.1, None]
    """
    rate = arm.plan.learning_rate or learning_rate
    warm = {"warmup_share": _WARM}
    variants = [
        (f"{_TIMES:.0f} times the rate", _TIMES, {}),
        (f"the rate divided by {_TIMES:.0f}", 1 / _TIMES, {}),
        ("10 times the rate, with a warm-up", 10.0, warm),
    ]
    plans = [
        (words, arm.plan.changed(learning_rate=float(f"{rate * times:.3g}"), **more))
        for words, times, more in variants
        if rate
    ]
    if arm.plan.weight_decay:
        plans[-1:] = [("10 times the decay", arm.plan.changed(weight_decay=float(f"{10 * arm.plan.weight_decay:.3g}")))]
    bound = {"clip_kind": "norm", "clip": 1.0} if arm.plan.clip is None else {}
    plans.append(("a warm-up and a clip", arm.plan.changed(**warm, **bound)))
    return [
        Arm(name=f"{arm.name}, {words}", plan=plan, source="prescribed", reason="what did best, in another dose")
        for words, plan in plans
        if plan != arm.plan
    ]


def in_turns(lists: Sequence[Sequence[Arm]]) -> list[Arm]:
    """A bracket of the first list, one of the second, and so on, and then the next bracket of each.

    Where the first choices for a finding all fail, those for another finding are likelier than its last ones.
    """
    longest = max(map(len, lists), default=0)
    return [arm for begin in range(0, longest, BRACKET) for each in lists for arm in each[begin : begin + BRACKET]]
