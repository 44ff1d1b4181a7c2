"""`unscaled-input`: inputs so large that units and gates saturate, which they do not once these are standardised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.squashed import squashed_share
from throughtime.diagnosis.trials import Trials

__all__ = ["RULES"]

_LARGE = 4.0
"""Largest |mean| or standard deviation of a feature that is never looked into: torch's starts bear it."""
_SEVERE = 0.4
"""Share of units and gates, over steps and sequences, that saturate because of the inputs' scale."""
_SLIGHT = 0.2


def unscaled_input(evidence: Evidence) -> Finding | None:
    """Units and gates in their flat part, with the inputs as they are and standardised."""
    trial = evidence.trials
    scale, standard = 0.0, trial.probe.inputs
    for x in trial.aligned():
        if x.is_floating_point():
            largest, of_scale_one = _standardised(trial.time_first(x), trial.valid())
            scale, standard = max(scale, largest), trial.put(standard, x, of_scale_one)
    if scale <= _LARGE:
        return None
    now, then = _share(trial, trial.probe.inputs), _share(trial, standard)
    if now is None or then is None:
        raise Missing("a recurrence made of tanh and sigmoid, whose saturation can be seen")
    if now - then < _SLIGHT:
        return None
    severe = now - then >= _SEVERE
    return Finding(
        "unscaled-input",
        "error" if severe else "warning",
        0.95 if severe else 0.6,
        f"Inputs reach means or standard deviations of {scale:.3g}, and {now:.0%} of the units and gates sit in their "
        f"flat part; with the same inputs standardised {then:.0%} do",
        {"scale": scale, "saturated": now, "saturated_standardised": then},
    )


def _standardised(x: Tensor, valid: Tensor) -> tuple[float, Tensor]:
    """The largest |mean| or standard deviation of a feature, and x (T, B, ...) with mean 0 and deviation 1."""
    inside = x[valid.to(x.device)].double()
    mean, spread = inside.mean(0), inside.std(0)
    flat = (x.double() - mean) / torch.where(spread > 0, spread, 1.0)
    return float(torch.maximum(mean.abs(), spread).max()), flat.to(x.dtype)


def _share(trial: Trials, inputs: Any) -> float | None:
    return squashed_share(trial.model, inputs)


RULES = (Rule("unscaled-input", unscaled_input),)
