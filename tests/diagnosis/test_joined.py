"""One diagnosis of several sides: each code once, of the side where it is worst."""

from __future__ import annotations

from typing import Any

from throughtime.diagnosis import Diagnosis, Finding, joined


def finding(code: str, severity: str = "error", confidence: float = 0.5, summary: str = "The numbers.") -> Finding:
    return Finding(code, severity, confidence, summary, {"reach": 3})


def side(*findings: Finding, **rest: Any) -> Diagnosis:
    fields: dict[str, Any] = {"not_checked": {}, "ignored": (), "horizons": {}, "notes": ()}
    return Diagnosis.of(list(findings), **(fields | rest))


def test_a_finding_names_its_side_unless_it_is_the_same_on_all() -> None:
    of_training = finding("over-clipping", "warning", summary="Half of the steps are clipped.")
    found = joined(
        {
            "left of it": side(of_training),
            "right of it": side(finding("vanishing-gradient", summary="The gradient shrinks."), of_training),
        }
    )
    assert [(f.code, f.summary) for f in found.findings] == [
        ("vanishing-gradient", "Right of it: the gradient shrinks."),
        ("over-clipping", "Half of the steps are clipped."),
    ]
    assert not found.healthy


def test_the_worse_of_two_sides_is_told() -> None:
    found = joined(
        {
            "left": side(finding("weak-recurrence", "warning", 0.9), finding("plateau", confidence=0.2)),
            "right": side(
                finding("weak-recurrence", "error", 0.1, "It is ignored."),
                finding("plateau", confidence=0.8, summary="It stands."),
            ),
        }
    )
    assert {f.code: (f.severity, f.confidence) for f in found.findings} == {
        "weak-recurrence": ("error", 0.1),
        "plateau": ("error", 0.8),
    }
    assert {f.summary for f in found.findings} == {"Right: it is ignored.", "Right: it stands."}


def test_need_reach_and_use_are_those_of_the_side_that_needs_more() -> None:
    unknown = {"need": None, "reach": 4, "use": 1}
    known = {"need": 0, "reach": 2, "use": None}
    found = joined({"left": side(horizons=unknown), "right": side(horizons=known, notes=("by hand",))})
    assert found.horizons == known
    assert found.notes == (
        "by hand",
        "left: need unknown, reach 4, use 1 steps",
        "right: need 0, reach 2, use unknown steps",
    )


def test_what_was_found_on_one_side_was_looked_at() -> None:
    unseen = {"plateau": "a watch", "dead-units": "ReLU"}
    found = joined({"left": side(not_checked=unseen), "right": side(finding("plateau"))})
    assert found.not_checked == {"dead-units": "ReLU"}
