"""What is tried after what: looks, the two best together, the best in other doses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from throughtime.remedy import TreatmentPlan
from throughtime.trial import Arm, CourseResult, Standing, Trial
from throughtime.trial.engine import Engine
from throughtime.trial.ledger import Ledger
from throughtime.trial.stages import Prescribed, doses, in_turns
from throughtime.trial.timing import StepTimes
from trial.toys import Toy

SEEDS = range(5)


def arm(name: str, **changes: object) -> Arm:
    return Arm(name=name, plan=TreatmentPlan(**changes), source="prescribed")  # type: ignore[arg-type]


@pytest.fixture
def trial() -> Trial:
    """Of a toy that three to four digits of its learning rate cure: real trainings of 25 steps."""
    ledger = Ledger(None, "toy")
    times = StepTimes(Toy(), ledger, 0)
    return Trial(Engine(Toy(), ledger), times, seeds=SEEDS, num_steps=25, target=0.9)


def names(standings: Sequence[Standing]) -> list[str]:
    return [each.arm.name for each in standings]


def test_the_next_look_is_asked_for_only_where_nothing_has_learned_with_every_seed(trial: Trial) -> None:
    asked = []

    def looks() -> Iterator[Sequence[Arm]]:
        for number, rate in enumerate((1e-4, 0.05, 0.02)):
            asked.append(number)
            yield [arm(str(rate), learning_rate=rate)]

    found = Prescribed(looks(), 1e-5).first(trial)
    assert asked == [0, 1]
    assert names(found) == ["0.0001", "0.05"]
    assert found[-1].num_learned == 5


def test_what_did_best_is_tried_in_other_doses_at_last(trial: Trial) -> None:
    found = Prescribed([[arm("too little", learning_rate=2e-3)]], 1e-5).first(trial)
    assert names(found)[:2] == ["too little", "too little, 3 times the rate"]
    best = trial.best(found)
    assert best is not None
    assert best.num_learned == 5
    assert best.arm.plan.learning_rate in (6e-3, 2e-2)


def test_two_looks_that_do_not_cure_are_tried_together(trial: Trial) -> None:
    found = Prescribed([[arm("clip", clip=0.5)], [arm("warm", warmup_share=0.2)]], None).first(trial)
    assert {"clip", "warm"} < set(names(found))
    assert [each.arm.plan for each in found if each.arm.source == "pair"] == [TreatmentPlan(clip=0.5, warmup_share=0.2)]


def test_a_bound_holds_over_all_stages(trial: Trial) -> None:
    found = Prescribed([[arm("clip", clip=0.5)], [arm("warm", warmup_share=0.2)]], 1e-5, most_trainings=12).first(trial)
    assert sum(len(each.results) for each in found) <= 12


def test_no_plan_is_tried_twice(trial: Trial) -> None:
    looks = [[arm("clip", clip=0.5)], [arm("the same", clip=0.5), arm("warm", warmup_share=0.2)]]
    found = Prescribed(looks, None).first(trial)
    assert len({each.arm.plan for each in found}) == len(found)


def test_a_dose_changes_the_rate_that_the_treatment_has() -> None:
    rates = [each.plan.learning_rate for each in doses(arm("adam", adam=True, learning_rate=1e-3), 5.0)]
    assert rates == [3e-3, 3.33e-4, 1e-2, 1e-3]


def test_without_a_known_rate_only_its_beginning_changes() -> None:
    found = doses(arm("clip", clip=2.0), None)
    assert [each.plan for each in found] == [TreatmentPlan(clip=2.0, warmup_share=0.1)]


def test_findings_take_turns_in_brackets() -> None:
    lists = [[arm(f"{letter}{number}") for number in range(count)] for letter, count in (("a", 6), ("b", 5))]
    assert [each.name for each in in_turns(lists)] == [
        "a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3", "a4", "a5", "b4",
    ]  # fmt: skip


def test_of_what_decays_the_weights_the_decay_is_a_dose_too() -> None:
    decays = [each.plan.weight_decay for each in doses(arm("decay", weight_decay=1e-3), 0.1)]
    assert decays == [1e-3, 1e-3, 1e-2, 1e-3]


def standing(name: str, learned: int, score: float, **changes: object) -> Standing:
    results = [CourseResult(score=score, learned=number < learned) for number in range(5)]
    return Standing(arm(name, **changes), tuple(SEEDS), tuple(results))


def test_the_best_is_joined_with_the_next_one_that_adds_to_it(trial: Trial) -> None:
    stood = [
        standing("clip", 3, 0.6, clip=0.5),
        standing("warm", 1, 0.4, warmup_share=0.2),
        standing("clip harder", 2, 0.5, clip=0.1),
        standing("norm", 2, 0.4, layer_norm=True),
    ]
    assert [each.name for each in trial.pairs(stood)] == ["clip + norm"]
    assert trial.pairs(stood[:1]) == trial.pairs([]) == []


def test_where_nothing_has_learned_the_best_is_joined_with_the_likelier_ones(trial: Trial) -> None:
    changes = [{"skip": 2}, {"clip": 0.5}, {"layer_norm": True}, {"warmup_share": 0.2}, {"omega": 1.0}, {"fresh": True}]
    stood = [standing(str(next(iter(each))), 0, 0.3 + 0.01 * n, **each) for n, each in enumerate(changes)]
    stood[1] = standing("clip", 0, 0.5, clip=0.5)
    pairs = trial.pairs(stood)
    assert [each.name for each in pairs] == ["clip + skip", "clip + layer_norm", "clip + warmup_share", "clip + omega"]
    assert all(each.plan.clip == 0.5 and len(each.plan.changes) == 2 for each in pairs)


def test_what_does_not_go_together_is_no_pair(trial: Trial) -> None:
    stood = [
        standing("orthogonal", 3, 0.6, start="orthogonal"),
        standing("ring", 2, 0.5, cell="lru", start="ring"),  # a matrix that is orthogonal fits no diagonal one
        standing("warm", 1, 0.4, warmup_share=0.2),
    ]
    assert [each.name for each in trial.pairs(stood)] == ["orthogonal + warm"]
