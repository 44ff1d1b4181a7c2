"""Successive halving over seeds: every arm is trained with a few seeds, the better half with more, the best with all.

Each training has its full length, so that what learns late is not thrown out early; what is saved is seeds. Where the
order means something the first arm of a bracket is trained alone for as long as it learns with every seed: a cure that
was expected costs no more than its own trainings.

*Reference*: Jamieson & Talwalkar 2016, *Non-stochastic best arm identification and hyperparameter optimization*,
arXiv:1502.07943; the resource here is the number of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import CourseResult

__all__ = ["BRACKET", "Arm", "Standing", "bracket_cost", "halved", "num_trainings", "rungs", "searched"]

BRACKET = 4
"""Arms that compete at a time; the next ones are tried only while no arm has learned with every seed."""

Run = Callable[[Sequence[tuple["Arm", int]]], list[CourseResult]]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A treatment that takes part in a trial.

    Attributes:
        name: for a person.
        plan: the treatment.
        source: "baseline", "prescribed", "pair" or "random".
        reason: why it is tried.
        predicted_reach: of the gradient at the start, from a formula alone; None where there is none.
    """

    name: str
    plan: TreatmentPlan
    source: str
    reason: str = ""
    predicted_reach: int | None = None


@dataclass(frozen=True)
class Standing:
    """An arm, and what its trainings gave.

    Attributes:
        arm: which.
        seeds: that it was trained with.
        results: in their order.
    """

    arm: Arm
    seeds: tuple[int, ...] = ()
    results: tuple[CourseResult, ...] = ()

    def joined(self, seeds: Sequence[int], results: Sequence[CourseResult]) -> Standing:
        """With further trainings, those of seeds that it has had already left out."""
        new = [pair for pair in zip(seeds, results, strict=True) if pair[0] not in self.seeds]
        return Standing(
            self.arm, (*self.seeds, *(seed for seed, _ in new)), (*self.results, *(result for _, result in new))
        )

    @property
    def num_learned(self) -> int:
        """Seeds that reached the target."""
        return sum(result.learned for result in self.results)

    @property
    def mean_score(self) -> float:
        """Over the seeds; minus infinity where one has none."""
        scores = [-math.inf if result.score is None else result.score for result in self.results]
        return sum(scores) / len(scores) if scores else -math.inf

    @property
    def share_scored(self) -> float:
        """Of the trainings, those that have a score."""
        return sum(result.score is not None for result in self.results) / max(1, len(self.results))

    @property
    def merit(self) -> tuple[float, float, float]:
        """What a better arm has more of: seeds that learned, trainings with a score, score."""
        known = [result.score for result in self.results if result.score is not None]
        return self.num_learned / max(1, len(self.results)), self.share_scored, sum(known) / max(1, len(known))


def rungs(num_seeds: int) -> tuple[int, ...]:
    """How many seeds an arm has had when its bracket is halved; the last one is all of them.

    Example:
        >>> rungs(5), rungs(10)
        ((1, 3, 5), (2, 6, 10))
    """
    return math.ceil(num_seeds / 5), math.ceil(3 * num_seeds / 5), num_seeds


def bracket_cost(num_arms: int, num_seeds: int, *, ranked: bool = False) -> int:
    """Trainings that a bracket takes at most.

    Example:
        >>> [bracket_cost(arms, 5) for arms in (1, 2, 3, 4)], bracket_cost(4, 5, ranked=True)
        ([5, 6, 9, 10], 14)
    """
    alone = num_seeds - rungs(num_seeds)[0] if ranked and num_arms > 1 else 0
    cost, before = alone, 0  # the first arm may learn with all seeds but the last, and then be dropped
    for rung in rungs(num_seeds):
        cost += num_arms * (rung - before)
        num_arms, before = math.ceil(num_arms / 2), rung
    return cost


def halved(arms: Sequence[Arm], seeds: Sequence[int], run: Run, *, ranked: bool = False) -> list[Standing]:
    """One bracket.

    Args:
        arms: the likelier ones first: of equal ones the first stays.
        seeds: all of them.
        run: trains arms with seeds.
        ranked: whether the first arm is tried alone, and the others only once it has failed with a seed.

    Returns:
        Where each arm that was tried stood when it was dropped, in the order of `arms`; one has had every seed.
    """
    standings = [Standing(arm) for arm in arms]
    if ranked:
        standings[0] = _while_it_learns(standings[0], seeds, run)
        if standings[0].num_learned == len(seeds):
            return standings[:1]
    alive = list(range(len(arms)))
    for rung in rungs(len(seeds)):
        wanted = [(index, seed) for index in alive for seed in seeds[len(standings[index].results) : rung]]
        results = run([(arms[index], seed) for index, seed in wanted])
        for (index, seed), result in zip(wanted, results, strict=True):
            standings[index] = standings[index].joined([seed], [result])
        alive = sorted(alive, key=lambda index: standings[index].merit, reverse=True)[: math.ceil(len(alive) / 2)]
    return standings


def _while_it_learns(standing: Standing, seeds: Sequence[int], run: Run) -> Standing:
    for rung in rungs(len(seeds)):
        new = seeds[len(standing.results) : rung]
        standing = standing.joined(new, run([(standing.arm, seed) for seed in new]))
        if standing.num_learned < len(standing.results):
            return standing
    return standing


def searched(
    arms: Iterable[Arm],
    seeds: Sequence[int],
    run: Run,
    *,
    most_trainings: int | None = None,
    ranked: bool = False,
    enough: int | None = None,
) -> list[Standing]:
    """Brackets, one after the other, until an arm has learned with enough seeds, or no training is left.

    Args:
        arms: the likelier ones first; may be endless where `most_trainings` is given.
        seeds: of each arm.
        run: trains arms with seeds.
        most_trainings: None for no bound.
        ranked: whether the order means something, see `halved`.
        enough: seeds; all of them unless given.

    Returns:
        Where every arm that was tried stood at last.
    """
    waiting: Iterator[Arm] = iter(arms)
    standings: list[Standing] = []
    left = math.inf if most_trainings is None else most_trainings
    while True:
        costs = {size: bracket_cost(size, len(seeds), ranked=ranked) for size in range(1, BRACKET + 1)}
        bracket = list(islice(waiting, max((size for size, cost in costs.items() if cost <= left), default=0)))
        if not bracket:
            return standings
        found = halved(bracket, seeds, run, ranked=ranked)
        standings += found
        left -= sum(len(standing.results) for standing in found)
        if any(standing.num_learned >= (enough or len(seeds)) for standing in found):
            return standings


def num_trainings(standings: Iterable[Standing]) -> int:
    """How many there were; of an arm that stands there twice each seed counts once."""
    return len({(each.arm.plan, seed) for each in standings for seed in each.seeds})
