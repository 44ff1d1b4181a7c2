"""Successive halving: who goes on, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import CourseResult
from throughtime.trial.halving import Arm, Standing, bracket_cost, halved, rungs, searched

SEEDS = (0, 1, 2, 3, 4)


def arm(number: int) -> Arm:
    return Arm(name=str(number), plan=TreatmentPlan(learning_rate=1.0 + number), source="prescribed")


class Scores:
    """Trainings whose outcome is known: an arm scores its number of points, from 100 on it has learned."""

    def __init__(self, points: dict[str, float | None]) -> None:
        self.points, self.asked = points, list[tuple[str, int]]()

    def __call__(self, wanted: Sequence[tuple[Arm, int]]) -> list[CourseResult]:
        self.asked += [(arm.name, seed) for arm, seed in wanted]
        scores = [self.points.get(arm.name, 0.0) for arm, _ in wanted]
        return [
            CourseResult(score=score, learned=score is not None and score >= 100, failed="" if score else "no")
            for score in scores
        ]


def test_the_better_half_goes_on() -> None:
    run = Scores({"0": 1.0, "1": 4.0, "2": 3.0, "3": 2.0})
    found = halved([arm(number) for number in range(4)], SEEDS, run)
    assert [len(standing.results) for standing in found] == [1, 5, 3, 1]
    assert len(run.asked) == bracket_cost(4, 5) == 10
    assert len(set(run.asked)) == 10


def test_of_equal_arms_the_first_stays() -> None:
    found = halved([arm(number) for number in range(4)], SEEDS, Scores({}))
    assert [len(standing.results) for standing in found] == [5, 3, 1, 1]


def test_what_fails_is_worse_than_any_score() -> None:
    found = halved([arm(0), arm(1)], SEEDS, Scores({"0": None, "1": -1e9}))
    assert [len(standing.results) for standing in found] == [1, 5]


def test_a_search_ends_when_an_arm_learns_with_every_seed() -> None:
    run = Scores({"1": 100.0})
    found = searched((arm(number) for number in count()), SEEDS, run, most_trainings=100)
    assert [standing.arm.name for standing in found] == ["0", "1", "2", "3"]
    assert max(found, key=lambda standing: standing.merit).num_learned == 5


def test_a_search_goes_on_with_the_next_arms_and_ends_with_its_trainings() -> None:
    run = Scores({"5": 100.0})
    found = searched((arm(number) for number in count()), SEEDS, run, most_trainings=19)
    assert len(found) == 7  # four, and of the nine trainings that are left three more
    assert len(run.asked) == bracket_cost(4, 5) + bracket_cost(3, 5) == 19
    assert found[5].num_learned == 5


def test_too_few_trainings_are_none() -> None:
    assert searched([arm(0)], SEEDS, Scores({}), most_trainings=4) == []


def test_every_rung_has_more_seeds() -> None:
    for number in range(5, 12):
        steps = rungs(number)
        assert steps[-1] == number
        assert sorted(set(steps)) == list(steps)


def test_a_score_that_is_missing_makes_no_mean() -> None:
    standing = Standing(
        arm(0), (0, 1), (CourseResult(score=None, learned=False, failed="x"), CourseResult(score=3.0, learned=False))
    )
    assert standing.merit == (0.0, 0.5, 3.0)


def test_where_the_order_means_something_the_first_costs_no_more_than_its_own_trainings() -> None:
    run = Scores({"0": 100.0, "1": 100.0})
    found = searched([arm(number) for number in range(4)], SEEDS, run, ranked=True)
    assert [(standing.arm.name, standing.num_learned) for standing in found] == [("0", 5)]
    assert run.asked == [("0", seed) for seed in SEEDS]


def test_where_the_first_fails_what_it_has_had_counts_in_its_bracket() -> None:
    run = Scores({"1": 100.0})
    found = searched([arm(number) for number in range(4)], SEEDS, run, ranked=True)
    assert [len(standing.results) for standing in found] == [3, 5, 1, 1]
    assert len(run.asked) == len(set(run.asked)) == bracket_cost(4, 5)


def test_a_first_arm_that_fails_late_stays_within_the_bound() -> None:
    class FailsWithTheLastSeed(Scores):
        def __call__(self, wanted: Sequence[tuple[Arm, int]]) -> list[CourseResult]:
            results = super().__call__(wanted)
            late = [arm.name == "0" and seed == SEEDS[-1] for arm, seed in wanted]
            return [CourseResult(score=0.0, learned=False) if bad else r for bad, r in zip(late, results, strict=True)]

    for most in range(5, 30):
        run = FailsWithTheLastSeed({"0": 100.0, "1": 101.0, "2": 102.0})
        found = searched([arm(number) for number in range(4)], SEEDS, run, most_trainings=most, ranked=True)
        assert len(run.asked) == sum(len(standing.results) for standing in found) <= most
