"""`target-leak`, `future-leak`, `targets-shifted`: the model is given what it has to tell."""

from __future__ import annotations

from collections.abc import Callable

from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.rule import Rule

__all__ = ["RULES"]


def _finding(evidence: Evidence, code: str) -> Finding | None:
    found = evidence.leak
    if found is None or found.code != code:
        return None
    what = "the input" if found.copy.feature is None else f"feature {found.copy.feature} of the input"
    side = "; it sees later inputs as well" if found.two_sided and found.offset is not None else ""
    return Finding(
        code,
        found.severity,
        0.98 if found.severity == "error" else 0.6,
        f"In {found.copy.share:.0%} of the sequences the target is {what} {found.where}, and replacing that input "
        f"changes the output by {found.effect:.2g} of what replacing everything does, so the model is given what it "
        f"has to tell{side}",
        {
            "offset": found.offset,
            "feature": found.copy.feature,
            "share": found.copy.share,
            "effect": found.effect,
            "two_sided": found.two_sided,
        },
    )


def _rule(code: str) -> Callable[[Evidence], Finding | None]:
    return lambda evidence: _finding(evidence, code)


RULES = tuple(Rule(code, _rule(code)) for code in ("target-leak", "future-leak", "targets-shifted"))
