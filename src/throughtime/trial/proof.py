"""The proof of a treatment: on seeds that nothing was chosen with, beside the patient as it is, at most twice.

A proof has a level alpha: a treatment that does no better than none passes it with a probability of at most alpha,
whatever led to its choice, since what chose it never saw these seeds. By Bonferroni's inequality one of two proofs is
passed so with a probability of at most the sum of their levels, 0.0375 + 0.0125 = 0.05, also where the outcome of the
first decides what is proven next. The first loses nothing by it: up to ten pairs have no p between 0.0375 and 0.05.

*Reference*: Dunn 1961, *Multiple comparisons among means*, doi:10.1080/01621459.1961.10482090.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from throughtime.trial.course import CourseResult
from throughtime.trial.halving import Arm
from throughtime.trial.statistics import paired_p, sign_p

__all__ = ["FRESH", "LEVELS", "Proof", "cured", "decided"]

FRESH = 10
"""Pairs of trainings on seeds that no arm was selected with."""
LEVELS = (0.0375, 0.0125)
"""Of the first proof and of the second; their sum is what both together may claim by mistake."""
_CURED = 8
"""Of the fresh seeds, those that have to reach the target."""


def cured(treated: Sequence[bool], untreated: Sequence[bool], level: float = LEVELS[0]) -> bool:
    """Whether enough fresh seeds learn, and significantly more than of the patient as it is.

    Args:
        treated: for each fresh seed, whether it learned.
        untreated: on the same seeds.
        level: of the proof.
    """
    return sum(treated) >= _CURED and paired_p(treated, untreated) <= level


def decided(treated: Sequence[bool], untreated: Sequence[bool], level: float = LEVELS[0]) -> bool | None:
    """What `cured` will say of all ten pairs, as soon as nothing that is not known yet can change it; None before.

    Args:
        treated: of the first fresh seeds, as far as they are known.
        untreated: likewise.
        level: of the proof.

    Example:
        >>> decided([False] * 3, []), decided([True] * 10, [False] * 4), decided([True] * 10, [False] * 5)
        (False, None, True)
        >>> decided([True] * 10, [False] * 6 + [True] * 4, LEVELS[0]), decided([True] * 10, [False] * 6, LEVELS[1])
        (True, None)
    """
    without, beside = FRESH - len(treated), FRESH - len(untreated)
    worst = cured([*treated, *[False] * without], [*untreated, *[True] * beside], level)
    best = cured([*treated, *[True] * without], [*untreated, *[False] * beside], level)
    return worst if worst == best else None


@dataclass(frozen=True)
class Proof:
    """An arm and the patient as it is on fresh seeds.

    Attributes:
        arm: which.
        seeds: that nothing was chosen with.
        level: that its p must not exceed.
        treated: results of the arm, of the first seeds where not all were needed.
        untreated: likewise of the patient as it is.
        has_target: whether "learned" means anything.
    """

    arm: Arm
    seeds: tuple[int, ...]
    level: float
    treated: tuple[CourseResult, ...]
    untreated: tuple[CourseResult, ...]
    has_target: bool

    @property
    def num_learned(self) -> int:
        """Treated seeds that reached the target."""
        return sum(result.learned for result in self.treated)

    @property
    def num_untreated(self) -> int:
        """Seeds that reached it without the treatment."""
        return sum(result.learned for result in self.untreated)

    @property
    def p(self) -> float:
        """Of the seeds that learn, or of the scores where there is no target; of the pairs that are known."""
        if not self.has_target:
            return self._p_score
        pairs = list(zip(_learned(self.treated), _learned(self.untreated), strict=False))
        return paired_p([treated for treated, _ in pairs], [untreated for _, untreated in pairs])

    @property
    def decided(self) -> bool | None:
        """Whether it is a cure; None while seeds are left that can still change it."""
        return decided(_learned(self.treated), _learned(self.untreated), self.level)

    @property
    def cured(self) -> bool:
        """Whether enough seeds reach the target, and more than without the treatment."""
        return self.has_target and bool(self.decided)

    @property
    def better(self) -> bool:
        """Whether the scores are higher."""
        return self._p_score <= self.level

    @property
    def passed(self) -> bool:
        """Whether it shows all that it could."""
        return self.cured if self.has_target else self.better

    @property
    def _p_score(self) -> float:
        pairs = list(zip(_values(self.treated), _values(self.untreated), strict=False))
        return sign_p(sum(a > b for a, b in pairs), sum(a < b for a, b in pairs))


def _learned(results: Sequence[CourseResult]) -> list[bool]:
    return [result.learned for result in results]


def _values(results: Sequence[CourseResult]) -> list[float]:
    """Scores to be compared; one that is not there is worse than any."""
    return [float("-inf") if result.score is None else result.score for result in results]
