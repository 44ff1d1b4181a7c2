"""To be written."""

from __future__ import annotations

from throughtime.diagnosis.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = ()
