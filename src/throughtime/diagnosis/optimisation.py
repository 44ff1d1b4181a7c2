"""What the optimizer does to the model: the rules, each in the file of its family."""

from __future__ import annotations

from throughtime.diagnosis import clipping, gradients, learning_rates, non_finite, overfitting, plateau, unmoved
from throughtime.diagnosis.rule import Rule

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    Rule("non-finite", non_finite.find),
    Rule("optimizer-misses-parameters", unmoved.find),
    Rule("gradient-not-reset", gradients.find),
    Rule("clipping-missing", clipping.find_missing),
    Rule("over-clipping", clipping.find_over),
    Rule("learning-rate-too-high", learning_rates.find_too_high),
    Rule("learning-rate-too-low", learning_rates.find_too_low),
    Rule("plateau", plateau.find),
    Rule("overfitting", overfitting.find),
)
