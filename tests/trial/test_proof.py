"""When an arm is cured, at which level, and when that can be told before the last fresh seed."""

from __future__ import annotations

import itertools
import random

import pytest

from throughtime.remedy import TreatmentPlan
from throughtime.trial import Arm, Trial
from throughtime.trial.engine import Engine
from throughtime.trial.ledger import Ledger
from throughtime.trial.proof import FRESH, LEVELS, cured, decided
from throughtime.trial.statistics import sign_p
from throughtime.trial.timing import StepTimes
from trial.toys import Told


def test_eight_have_to_learn_and_significantly_more_than_untreated() -> None:
    assert cured([True] * 8 + [False] * 2, [False] * 10)
    assert not cured([True] * 7 + [False] * 3, [False] * 10)
    assert cured([True] * 10, [True] * 5 + [False] * 5)
    assert not cured([True] * 10, [True] * 6 + [False] * 4)


def test_what_is_decided_early_is_what_all_pairs_say() -> None:
    draw = random.Random(0)
    outcomes = []
    for shares in itertools.product((0.5, 0.8, 1.0), (0.0, 0.3, 0.6)):
        for _ in range(20):
            treated, untreated = ([draw.random() < share for _ in range(FRESH)] for share in shares)
            order = [(True, n) for n in range(FRESH)] + [(False, n) for n in range(FRESH)]
            for level in LEVELS:
                early = next(
                    (answer, number)
                    for number in range(2 * FRESH + 1)
                    if (answer := decided(*_known(treated, untreated, order[:number]), level)) is not None
                )
                assert early[0] == cured(treated, untreated, level)
                outcomes.append(early)
    assert {answer for answer, _ in outcomes} == {True, False}
    assert min(number for _, number in outcomes) == 3
    assert max(number for _, number in outcomes) <= 2 * FRESH


def _known(treated: list[bool], untreated: list[bool], seen: list[tuple[bool, int]]) -> tuple[list[bool], list[bool]]:
    return [treated[n] for arm, n in seen if arm], [untreated[n] for arm, n in seen if not arm]


def test_both_proofs_together_claim_less_than_one_in_twenty_by_mistake() -> None:
    """Where a treatment does nothing, each of the seeds on which the two differ is as likely to be better as worse."""
    assert sum(LEVELS) == pytest.approx(0.05)
    for pairs in range(1, FRESH + 1):
        mistaken = [
            max(
                (sign_p(better, pairs - better) for better in range(pairs + 1) if _passes(better, pairs, level)),
                default=0,
            )
            for level in LEVELS
        ]
        assert sum(mistaken) <= 0.05


def _passes(better: int, pairs: int, level: float) -> bool:
    return sign_p(better, pairs - better) <= level


def test_the_first_proof_asks_no_more_than_a_single_one_would() -> None:
    outcomes = [sign_p(better, pairs - better) for pairs in range(FRESH + 1) for better in range(pairs + 1)]
    assert not any(LEVELS[0] < p < 0.05 for p in outcomes)
    assert any(LEVELS[1] < p <= LEVELS[0] for p in outcomes)


def test_a_second_proof_asks_for_more() -> None:
    treated, untreated = [True] * 10, [False] * 6 + [True] * 4
    assert cured(treated, untreated, LEVELS[0])
    assert not cured(treated, untreated, LEVELS[1])
    assert cured(treated, [False] * 7 + [True] * 3, LEVELS[1])


A = Arm(name="a", plan=TreatmentPlan(learning_rate=0.02), source="prescribed")


def trial_of(patient: Told) -> Trial:
    ledger = Ledger(None, "told")
    return Trial(Engine(patient, ledger), StepTimes(patient, ledger, 0), seeds=range(5), num_steps=2, target=0.5)


def test_what_is_spared_changes_no_outcome() -> None:
    spared_trainings = []
    for most in range(FRESH + 1):
        for few in (0, 2, 5, 8):
            patient = Told(lambda plan, seed, most=most, few=few: seed - 5 < (most if plan.changes else few))
            whole, spared = trial_of(patient).proof(A), trial_of(patient).proof(A, sparing=True)
            assert len(whole.treated) == len(whole.untreated) == FRESH
            assert spared.cured == whole.cured
            spared_trainings.append(2 * FRESH - len(spared.treated) - len(spared.untreated))
    assert min(spared_trainings) == 0
    assert max(spared_trainings) == 17


def test_after_a_failed_proof_its_seeds_are_known_and_others_are_fresh() -> None:
    trial = trial_of(Told(lambda plan, seed: bool(plan.changes) and seed not in (6, 9, 14)))
    proof = trial.proof(A, sparing=True)
    assert not proof.passed
    again, failed = trial.after(proof)
    assert again.seeds == (0, 6, 9, 14, 5, 7, 8, 10, 11, 12, 13, 1, 2, 3, 4)
    assert again.fresh_seeds == tuple(range(15, 25))
    assert (again.level, again.enough) == (LEVELS[1], 14)
    assert (failed.num_learned, sorted(failed.seeds)) == (12, list(range(15)))
