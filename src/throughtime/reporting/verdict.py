"""What is wrong, if anything, as sentences."""

from __future__ import annotations

from html import escape

from throughtime.diagnosis import Diagnosis, Finding
from throughtime.reporting.picture import capital

__all__ = ["folded", "missing", "verdict"]


def verdict(diagnosis: Diagnosis) -> str:
    """Healthy, or the findings; and what could not be looked at, on demand."""
    errors = sum(finding.severity == "error" for finding in diagnosis.findings)
    if diagnosis.healthy:
        head = '<p class="verdict healthy">Healthy: no error was found.</p>'
    else:
        head = f'<p class="verdict ill">Not healthy: {errors} {"error" if errors == 1 else "errors"}.</p>'
    items = "".join(map(_finding, diagnosis.findings))
    findings = f'<ul class="findings">{items}</ul>' if items else ""
    unchecked = "".join(
        f"<li><code>{escape(code)}</code>: it would take {escape(what)}</li>"
        for code, what in diagnosis.not_checked.items()
    )
    rest = folded("What was not looked at", f"<ul>{unchecked}</ul>") if unchecked else ""
    notes = "".join(f"<p>{escape(capital(text))}</p>" for text in diagnosis.notes)
    return f'<div class="card">{head}{findings}{notes}{rest}</div>'


def folded(summary: str, inside: str) -> str:
    """HTML that is opened by a click, and that print shows."""
    return f'<details class="told"><summary>{escape(summary)}</summary>{inside}</details>'


def missing(*reasons: str) -> str:
    """What a page does not show, and why."""
    return "".join(f'<p class="missing">{escape(reason)}</p>' for reason in reasons if reason)


def _finding(finding: Finding) -> str:
    cause = f", follows from {escape(finding.follows)}" if finding.follows else ""
    return (
        f'<li class="{escape(finding.severity)}"><span class="code">{escape(finding.code)}</span>'
        f'<span class="severity">{escape(finding.severity)}{cause}</span><br>{escape(capital(finding.summary))}</li>'
    )
