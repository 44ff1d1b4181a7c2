"""A second selection and a second proof, where the first one fails: what is chosen, on which seeds, at which level."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from throughtime.remedy import TreatmentPlan
from throughtime.trial import Treatment, treat
from throughtime.trial.proof import LEVELS
from trial.toys import RATE, Told

FIRST = {"a rate": TreatmentPlan(learning_rate=2 * RATE)}
STRONGER = "a rate, 3 times the rate"
FIRST_PROOF, SECOND_PROOF = range(5, 15), range(15, 25)


def by_rate(learned: dict[float, set[int]]) -> Callable[[TreatmentPlan, int], bool]:
    """With the seeds that are told for a multiple of the rate; nothing else learns."""

    def learns(plan: TreatmentPlan, seed: int) -> bool:
        own = plan.changes.keys() == {"learning_rate"} and plan.learning_rate
        return seed in learned.get(round(own / RATE, 3) if own else 1, ())

    return learns


LUCKY = {2: {*range(5), *range(5, 12)}}
"""All five of the selection, and seven fresh ones."""
CURE = {**LUCKY, 6: set(range(25))}


@pytest.fixture(scope="module")
def cured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Treatment, Path]:
    folder = tmp_path_factory.mktemp("rounds") / "told"
    return treat(Told(by_rate(CURE)), remedies=FIRST, jobs=1, out=folder), folder


def test_what_fails_the_first_proof_is_strengthened_and_passes_the_second(cured: tuple[Treatment, Path]) -> None:
    found, folder = cured
    assert found.cured
    assert found.best_name == STRONGER
    assert found.p == 0.5**10
    assert [(each.name, each.passed, each.level) for each in found.proofs] == [
        ("a rate", False, LEVELS[0]),
        (STRONGER, True, LEVELS[1]),
    ]
    assert [(each.num_learned, each.num_untreated) for each in found.proofs] == [(7, 0), (10, 0)]
    assert Treatment.load(folder / "treatment.json") == found


def test_no_seed_that_something_was_chosen_with_proves_anything(cured: tuple[Treatment, Path]) -> None:
    found, _ = cured
    first, second = found.proofs
    assert (first.seeds, second.seeds) == (tuple(FIRST_PROOF), tuple(SECOND_PROOF))
    assert found.fresh_seeds == (*FIRST_PROOF, *SECOND_PROOF)
    assert set(found.best.seeds) == {*range(5), *FIRST_PROOF}
    assert not any(set(arm.seeds) & set(SECOND_PROOF) for arm in found.arms)
    assert all(len(arm.seeds) == len(set(arm.seeds)) == len(arm.scores) for arm in found.arms)


def test_random_search_has_as_many_trainings_in_both_selections(cured: tuple[Treatment, Path]) -> None:
    found, _ = cured
    counts = {source: sum(a.num_seeds for a in found.arms if a.source == source) for source in ("prescribed", "random")}
    assert counts["prescribed"] == 5 + 15 + 9 + 3 + 3
    assert counts["prescribed"] - 6 <= counts["random"] <= counts["prescribed"]  # what no bracket fits in is left


def test_both_proofs_are_shown(cured: tuple[Treatment, Path]) -> None:
    shown = str(cured[0])
    assert "5/5 seeds learn, fresh seeds 7/10" in shown
    assert "15/15 seeds learn, fresh seeds 10/10" in shown
    assert "<- cured (p = 0.00098, second proof)" in shown
    assert "10 of 10 fresh seeds learn (72% to 100%), as it is 0" in cured[0].verdict
    assert "'a rate' on the fresh seeds 5 to 14: 7 of 10 learn, as it is 0; p = 0.0078, which may be 0.0375" in shown
    assert f"'{STRONGER}' on the fresh seeds 15 to 24: 10 of 10 learn, as it is 0; p = 0.00098, which" in shown


def test_what_fails_both_proofs_is_not_cured() -> None:
    seeds = {**LUCKY, 6: {*range(15), *range(15, 22)}}
    found = treat(Told(by_rate(seeds)), remedies=FIRST, jobs=1)
    assert not found.cured
    assert [(each.name, each.num_learned, each.passed) for each in found.proofs] == [
        ("a rate", 7, False),
        (STRONGER, 7, False),
    ]
    assert found.verdict == f"better than the baseline with '{STRONGER}' on fresh seeds (p = 0.0078); not cured"


def test_the_second_proof_has_a_level_of_its_own() -> None:
    """Ten of ten beside four of ten would have passed the first one."""
    found = treat(Told(by_rate({**CURE, 1: {15, 16, 17, 18}})), remedies=FIRST, jobs=1)
    assert [each.passed for each in found.proofs] == [False, False]
    assert LEVELS[1] < found.proofs[1].p <= LEVELS[0]
    assert not found.cured


def test_of_the_patient_as_it_is_each_proof_counts_its_own_seeds() -> None:
    found = treat(Told(by_rate({**CURE, 1: {7, 8, 20}})), remedies=FIRST, jobs=1)
    assert [each.num_untreated for each in found.proofs] == [2, 1]
    assert found.baseline.num_fresh_learned == 3
    assert "as it is 1 (" in found.verdict


def test_what_does_no_better_on_all_known_seeds_is_not_proven() -> None:
    seeds = {**LUCKY, 6: {0, 12, 13, 14, *range(5, 10)}}
    found = treat(Told(by_rate(seeds)), remedies=FIRST, jobs=1)
    assert [each.name for each in found.proofs] == ["a rate"]
    assert found.best_name == "a rate"
    assert {arm.name for arm in found.arms} > {STRONGER}


def test_what_learned_with_few_seeds_has_one_proof() -> None:
    found = treat(Told(by_rate({2: {0, 1, 5, 6}})), remedies=FIRST, jobs=1)
    assert [(each.name, each.num_learned) for each in found.proofs] == [("a rate", 2)]
    assert not found.cured


def test_what_passes_has_one_proof() -> None:
    found = treat(Told(by_rate({2: set(range(25))})), remedies=FIRST, jobs=1)
    assert [each.passed for each in found.proofs] == [True]
    assert found.fresh_seeds == tuple(FIRST_PROOF)


def test_another_treatment_that_did_well_is_proven() -> None:
    """It learned with as many seeds, and random search and the other doses do not."""
    others = {**FIRST, "half": TreatmentPlan(learning_rate=RATE / 2)}
    seeds = {2: {0, 1, 2, *range(5, 10)}, 0.5: {0, 1, 4, *range(5, 25)}}
    found = treat(Told(by_rate(seeds)), remedies=others, jobs=1)
    assert [(each.name, each.passed) for each in found.proofs] == [("a rate", False), ("half", True)]


def test_a_budget_may_not_be_enough_for_a_second_proof(tmp_path: Path) -> None:
    patient = Told(by_rate(CURE))
    once = treat(patient, remedies=FIRST, jobs=1, out=tmp_path)
    whole = once.baseline.num_steps * once.step_seconds
    budgets = {trainings: (2 * trainings + 25.5) * whole for trainings in (29, 50)}
    found = {
        most: treat(patient, remedies=FIRST, jobs=1, out=tmp_path, budget_seconds=seconds)
        for most, seconds in budgets.items()
    }
    assert [len(found[most].proofs) for most in budgets] == [1, 2]
    for most, each in found.items():
        assert sum(arm.num_seeds for arm in each.arms if arm.source == "prescribed") <= most


def test_what_was_not_tried_is_counted_and_the_reason_said(tmp_path: Path) -> None:
    others = {**FIRST, **{f"rate {times}": TreatmentPlan(learning_rate=times * RATE) for times in range(20, 26)}}
    found = treat(Told(by_rate({2: set(range(25))})), remedies=others, jobs=1)
    assert "1 of 7 treatments were tried: one was found that learns" in found.notes
    hopeless = Told(by_rate({}))
    whole = treat(hopeless, remedies=others, jobs=1, out=tmp_path)
    assert not any("treatments were tried" in note for note in whole.notes)
    seconds = 45.5 * whole.baseline.num_steps * whole.step_seconds
    found = treat(hopeless, remedies=others, jobs=1, out=tmp_path, budget_seconds=seconds)
    (note,) = (each for each in found.notes if "of 7 treatments were tried" in each)
    assert note.endswith(": the budget was not enough for more")


class Aimless(Told):
    target = None


def test_without_a_target_there_is_a_second_proof_too() -> None:
    found = treat(Aimless(by_rate({2: {*range(5), *range(5, 9)}, 6: set(range(25))})), remedies=FIRST, jobs=1)
    assert [(each.name, each.p, each.passed) for each in found.proofs] == [
        ("a rate", 0.5**4, False),
        (STRONGER, 0.5**10, True),
    ]
    assert "seeds learn" not in str(found)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.95])
def test_a_trial_goes_on_in_either_round(
    cured: tuple[Treatment, Path], share: float, tmp_path: Path, trained: list[int]
) -> None:
    found, folder = cured
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    head = [line for line in lines if json.loads(line)["event"] != "training"]
    trainings = [line for line in lines if json.loads(line)["event"] == "training"]
    kept = int(share * len(trainings))
    (tmp_path / "ledger.jsonl").write_bytes(b"".join([*head, *trainings[:kept], trainings[kept][:40]]))
    again = treat(Told(by_rate(CURE)), remedies=FIRST, jobs=1, out=tmp_path)
    assert again == found
    assert len(trained) == len(trainings) - kept
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["treated.safetensors"]
    assert "treated.safetensors holds the weights of the fresh seed 15, the first that learned" in again.notes
