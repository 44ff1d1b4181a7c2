"""One diagnosis of a network that was looked at from several sides."""

from __future__ import annotations

from collections.abc import Mapping

from throughtime.diagnosis.finding import SEVERITIES, Diagnosis, Finding, ordered

__all__ = ["joined"]


def joined(found: Mapping[str, Diagnosis]) -> Diagnosis:
    """What is wrong on any side.

    A code is told once, of the side where it is worst, which the sentence names unless it is the same on all. Need,
    reach and use are those of the side whose data need most; notes tell them of every side.

    Args:
        found: the diagnosis of each side, by its name, such as "before the blank".

    Example:
        >>> sides = {name: Diagnosis((), {}, (), {"need": need, "reach": 9}, ()) for name, need in (("a", 2), ("b", 5))}
        >>> joined(sides).horizons, joined(sides).notes
        ({'need': 5, 'reach': 9}, ('a: need 2, reach 9 steps', 'b: need 5, reach 9 steps'))
    """
    first = next(iter(found.values()))
    codes = dict.fromkeys(finding.code for diagnosis in found.values() for finding in diagnosis.findings)
    neediest = max(
        found.values(), key=lambda diagnosis: -1 if (need := diagnosis.horizons.get("need")) is None else need
    )
    unchecked = {code: reason for diagnosis in found.values() for code, reason in diagnosis.not_checked.items()}
    told = [note for diagnosis in found.values() for note in diagnosis.notes]
    return Diagnosis.of(
        ordered([_worst(code, found) for code in codes]),
        not_checked={code: reason for code, reason in unchecked.items() if code not in codes},
        ignored=first.ignored,
        horizons=neediest.horizons,
        notes=(*dict.fromkeys(told), *(_steps(side, diagnosis) for side, diagnosis in found.items())),
        censored=neediest.censored,
    )


def _worst(code: str, found: Mapping[str, Diagnosis]) -> Finding:
    of_sides = {
        side: finding for side, diagnosis in found.items() for finding in diagnosis.findings if finding.code == code
    }
    side, worst = min(of_sides.items(), key=lambda item: (SEVERITIES.index(item[1].severity), -item[1].confidence))
    if len(of_sides) == len(found) and all(finding.summary == worst.summary for finding in of_sides.values()):
        return worst
    summary = f"{side[0].upper()}{side[1:]}: {worst.summary[0].lower()}{worst.summary[1:]}"
    return Finding(**{**vars(worst), "summary": summary})


def _steps(side: str, diagnosis: Diagnosis) -> str:
    told = [f"{name} {'unknown' if steps is None else steps}" for name, steps in diagnosis.horizons.items()]
    return f"{side}: {', '.join(told)} steps"
