"""Findings, and the diagnosis that holds them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from throughtime.check import one_of
from throughtime.storage import Record

__all__ = ["CODES", "SEVERITIES", "Diagnosis", "Finding", "codes_of", "ordered"]

SEVERITIES = ("error", "warning", "info")

CODES: Mapping[str, str] = {
    "non-finite-data": "the data hold NaN or infinity",
    "non-finite": "loss, gradient or weights become NaN or infinite",
    "optimizer-misses-parameters": "parameters that the loss depends on never change",
    "gradient-not-reset": "gradients of earlier steps are still there at the next",
    "batch-mixing": "one example's output depends on another example",
    "target-leak": "the model sees the word that it has to guess",
    "future-leak": "an output sees the later input that is its target",
    "targets-shifted": "the target is an input that the model has been given already",
    "state-carried-wrongly": "a state enters an unrelated sequence, or is reset where it should be carried",
    "padding-read": "output or loss depends on padded steps",
    "probabilities-into-cross-entropy": "probabilities go into a loss that applies a softmax of its own",
    "unused-input": "the output does not depend on a part of the input",
    "constant-feature": "an input feature never changes",
    "unscaled-input": "inputs so large that units and gates saturate",
    "sequence-too-short": "no example is as long as what the target needs",
    "no-signal": "the data hold no dependence that more reach could use",
    "over-clipping": "most steps are clipped so hard that hardly anything is left of them",
    "truncated-window": "the gradient is cut off before it reaches what the data needs",
    "saturated-units": "the gradient fades because activations sit in their flat part",
    "closed-gates": "the gradient fades because gates wipe out the state",
    "dead-units": "units of the state that never move",
    "vanishing-gradient": "the gradient fades because the recurrent weights contract",
    "weak-recurrence": "there is a path through the state, and the model ignores it",
    "chaotic-dynamics": "small changes of the state grow exponentially",
    "exploding-gradient": "the gradient grows through time, or its norm spikes",
    "learning-rate-too-high": "updates are so large that the loss oscillates or climbs",
    "learning-rate-too-low": "updates are so small that nothing is learned in any reasonable time",
    "clipping-missing": "rare large gradients damage what was learned",
    "plateau": "the loss stands still above what can be reached",
    "overfitting": "the training examples are learned by heart",
}
"""Every code and what it means; of equally serious findings, causes stand before what follows from them."""


def codes_of(ignore: str | Collection[str]) -> tuple[str, ...]:
    """One code or several, as the user names them.

    Raises:
        RecipeError: if one of them is unknown.
    """
    return tuple(one_of("code", code, CODES) for code in ((ignore,) if isinstance(ignore, str) else ignore))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        code: one of `CODES`.
        severity: "error" (it keeps the model from learning what it should), "warning" or "info".
        confidence: from 0 to 1: how far the numbers lie beyond what chance or a healthy model gives.
        summary: a sentence with the measured numbers in it.
        evidence: the numbers by name.
        follows: the code of the finding that this one is a consequence of, or None.
    """

    code: str
    severity: str
    confidence: float
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    follows: str | None = None

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
        assert self.severity in SEVERITIES, self.severity

    def __str__(self) -> str:
        cause = f" (follows from {self.follows})" if self.follows else ""
        return f"{self.severity}: {self.code}{cause}\n  {self.summary}"


@dataclass(frozen=True)
class Diagnosis(Record):
    """Everything that was found, and what could not be looked at.

    Attributes:
        values: the findings' fields, most serious first.
        not_checked: by code, what it would take to look for it.
        ignored: codes that were not wanted.
        horizons: need, reach and use in steps, as far as they were measured.
        notes: what a reader should know.
        censored: those of the horizons that may be larger than what was seen.

    Example:
        >>> Diagnosis(values=(), not_checked={}, ignored=(), horizons={}, notes=()).healthy
        True
    """

    record_kind: ClassVar[str] = "diagnosis"
    schema_version: ClassVar[int] = 1

    values: tuple[dict[str, Any], ...]
    not_checked: dict[str, str]
    ignored: tuple[str, ...]
    horizons: dict[str, int | None]
    notes: tuple[str, ...]
    censored: tuple[str, ...] = ()

    @classmethod
    def of(cls, findings: list[Finding], **rest: Any) -> Diagnosis:
        """With findings in their order; their evidence as a file can hold it."""
        return cls(values=tuple({k: _kept(v) for k, v in asdict(finding).items()} for finding in findings), **rest)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Most serious first; what follows from another stands below it."""
        return tuple(Finding(**values) for values in self.values)

    @property
    def healthy(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def __str__(self) -> str:
        lines = ["healthy: no error was found" if self.healthy else "not healthy"]
        told = [
            f"{name} {'at least ' * (name in self.censored)}{steps}"
            for name, steps in self.horizons.items()
            if steps is not None
        ]
        if told:
            lines.append(f"in steps: {', '.join(told)}")
        for finding in self.findings:
            lines += ["", str(finding)]
        if self.not_checked:
            lines += ["", "not looked at:"]
            lines += [f"  {code}: {reason}" for code, reason in self.not_checked.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def ordered(found: list[Finding]) -> list[Finding]:
    """The most serious first; of these, what follows from nothing first; of these, in the order of `CODES`."""
    codes = list(CODES)
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.follows is not None, codes.index(f.code)))


def _kept(value: Any) -> Any:
    """Lists as tuples, and None for a number that is not finite: a record comes back from a file as it went in."""
    if isinstance(value, dict):
        return {name: _kept(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_kept(item) for item in value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
