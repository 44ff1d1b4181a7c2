"""A rule: one code, and how to look for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import CODES, Finding

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """How a code is found.

    Attributes:
        code: one of `CODES`.
        find: the finding, or None where all is well; raises `Missing` where the evidence for an answer is not there.
    """

    code: str
    find: Callable[[Evidence], Finding | None]

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code
