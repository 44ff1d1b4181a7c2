"""What is wired wrongly: what depends on what it should not see, or not on what it should. Proved by replacing."""

from __future__ import annotations

from throughtime.diagnosis import (
    wiring_leaks,
    wiring_mixing,
    wiring_padding,
    wiring_probabilities,
    wiring_state,
    wiring_unused,
)
from throughtime.diagnosis.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    *wiring_mixing.RULES,
    *wiring_leaks.RULES,
    *wiring_state.RULES,
    *wiring_padding.RULES,
    *wiring_probabilities.RULES,
    *wiring_unused.RULES,
)
