"""The record of a trial: names that tell its arms apart, and a verdict that says what was done."""

from __future__ import annotations

from typing import Any

from throughtime.remedy import TreatmentPlan
from throughtime.trial.outcome import named_apart
from throughtime.trial.treatment import ArmRecord, Treatment


def arm(name: str, source: str = "prescribed", fresh: int = 0, **changes: Any) -> ArmRecord:
    return ArmRecord(
        name=name,
        source=source,
        reason="",
        plan=TreatmentPlan(**changes),
        num_learned=5 if fresh else 0,
        num_seeds=5,
        interval=(0.0, 1.0),
        scores=(0.5,) * 5,
        failures=(),
        reach=None,
        predicted_reach=None,
        num_steps=10,
        step_ratio=1.0,
        p=None,
        p_corrected=None,
        fresh_scores=(1.0,) * fresh,
        num_fresh_learned=fresh,
    )


def treatment(arms: list[ArmRecord], best: str | None, **choices: Any) -> Treatment:
    given: dict[str, Any] = {
        "target": 0.9, "cured": best is not None, "better": best is not None, "p": 0.001, "seeds": (0, 1, 2, 3, 4),
        "fresh_seeds": (), "codes": (), "horizons": {}, "step_seconds": 1.0, "prescribed_seconds": 1.0,
        "random_seconds": 1.0, "by_hand": (), "notes": (),
    }  # fmt: skip
    return Treatment.of(arms, [], best_name=best, **given | choices)


def test_one_plan_has_one_name_and_one_name_is_of_one_plan() -> None:
    found = named_apart(
        [
            arm("baseline", "baseline"),
            arm("Adam", adam=True, learning_rate=1e-3),
            arm("Adam", adam=True, learning_rate=1e-3, start="orthogonal"),
            arm("clip", clip=1.0),
            arm("Adam again", adam=True, learning_rate=1e-3),
            arm("Adam", adam=True, learning_rate=2e-3),
        ]
    )
    assert [each.name for each in found] == ["baseline", "Adam", "Adam (2)", "clip", "Adam", "Adam (3)"]
    record = treatment(found, "Adam (2)")
    assert record.best.plan.start == "orthogonal"


def test_a_cure_that_was_drawn_says_what_it_is() -> None:
    drawn = arm("random 4", "random", fresh=10, skip=12, input_noise=1.25)
    told = treatment([arm("baseline", "baseline"), drawn], "random 4").verdict
    assert told.startswith("cured: with 'random 4' (skip 12, input noise 1.25) 10 of 10 fresh seeds learn")
    clipped = arm("clip", fresh=10, clip=1.0)
    told = treatment([arm("baseline", "baseline"), clipped], "clip").verdict
    assert told.startswith("cured: with 'clip' 10 of 10 fresh seeds learn")


def test_a_need_that_may_be_longer_is_the_least() -> None:
    arms = [arm("baseline", "baseline")]
    assert treatment(arms, None, horizons={"need": 8}).table.startswith("the data need 8 steps\n")
    least = treatment(arms, None, horizons={"need": 8}, censored=("need",))
    assert least.table.startswith("the data need at least 8 steps\n")
