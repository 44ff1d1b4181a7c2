"""Remedies that change what the model is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts
from throughtime.remedy.of_start import has_modules, reach_of_ring, ring
from throughtime.remedy.of_training import decay

__all__ = ["REMEDIES"]


_ORDINARY = 2.0
"""Deviations up to which inputs are left as they are, where their means are below 1."""
_NOISE = 1.0
"""Deviation of the noise on the inputs in theirs: it blurs what examples have by chance, not what they share."""


def has_real_inputs(facts: PatientFacts) -> bool:
    """Whether the first argument of the model holds real numbers, of which mean and deviation are known."""
    return facts.input_mean is not None


def has_numbers(facts: PatientFacts) -> bool:
    """Whether any argument of the model holds real numbers, of which mean and deviation are known."""
    return has_real_inputs(facts) or bool(facts.other_inputs)


def _standardised(evidence: PatientEvidence) -> dict[str, Any]:
    """The arguments whose numbers are not ordinary."""
    mean, deviation = evidence.facts.input_mean, evidence.facts.input_deviation
    found: dict[str, Any] = {}
    if mean is not None and deviation is not None and not _are_ordinary(mean, deviation):
        mean, deviation = _rounded(mean, deviation)
        found |= {"input_mean": mean, "input_deviation": deviation}
    others = [
        (name, *_rounded(mean, deviation))
        for name, mean, deviation in evidence.facts.other_inputs
        if not _are_ordinary(mean, deviation)
    ]
    return {**found, "other_inputs": tuple(others)} if others else found


def _cut_off(evidence: PatientEvidence) -> dict[str, Any]:
    """With mean and deviation as they are where these are ordinary."""
    return {"input_mean": (0.0,), "input_deviation": (1.0,), **_standardised(evidence), "clip_outliers": 4.0}


def _are_ordinary(mean: Sequence[float], deviation: Sequence[float]) -> bool:
    return all(abs(m) < 1 and 0.3 < d < _ORDINARY for m, d in zip(mean, deviation, strict=True))


def _rounded(mean: Sequence[float], deviation: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """To six digits; a mean that is far larger than its deviation to so many that a thousandth of that is kept."""
    digits = [max(6, math.ceil(math.log10(abs(m) / d)) + 4) if m else 6 for m, d in zip(mean, deviation, strict=True)]
    means = tuple(float(f"{m:.{number}g}") for m, number in zip(mean, digits, strict=True))
    return means, tuple(float(f"{d:.6g}") for d in deviation)


REMEDIES: Final = (
    Remedy(
        name="standardise",
        title="inputs with mean 0 and deviation 1",
        treats=("unscaled-input", "saturated-units", "exploding-gradient"),
        fits=has_numbers,
        change=_standardised,
        cost="none; the numbers have to go with the model",
        paper="LeCun, Bottou, Orr & Müller 1998, *Efficient BackProp*, section 4.3",
        does_not_help="features whose zero means something (padding, one-hot), and embeddings",
    ),
    Remedy(
        name="clip-outliers",
        title="inputs standardised and cut off at 4 deviations",
        treats=("unscaled-input", "clipping-missing"),
        fits=has_real_inputs,
        change=_cut_off,
        cost="what the outliers said is lost",
        paper="Huber 1964, doi:10.1214/aoms/1177703732",
        does_not_help="outliers in the targets: clip the gradient, or take a loss that grows less",
    ),
    Remedy(
        name="noisy-inputs",
        title="linear recurrent units, and noise on the inputs in training",
        treats=("overfitting",),
        fits=lambda facts: has_real_inputs(facts) and has_modules(facts),
        change=lambda evidence: {**ring(evidence), "input_noise": _NOISE, "weight_decay": decay(evidence)},
        reaches=reach_of_ring,
        predicts="as the ring start",
        cost="slower learning; the cell is replaced by one that is linear in its state",
        paper="Bishop 1995, doi:10.1162/neco.1995.7.1.108; Orvieto et al. 2023, arXiv:2303.06349",
        does_not_help="inputs whose small differences are what the target depends on; tokens",
    ),
)
