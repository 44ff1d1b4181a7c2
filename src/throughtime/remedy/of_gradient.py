"""Remedies that change the gradient between the backward pass and the update."""

from __future__ import annotations

from typing import Any, Final

from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts
from throughtime.remedy.of_start import has_anything

__all__ = ["ADAM", "REMEDIES", "has_sgd"]

_SPIKES = ("exploding-gradient", "clipping-missing", "non-finite")
_HUGE = 50.0
"""A usual norm beyond this is that of a training that went astray, and no measure for it."""
_USUAL = 1.0
"""A bound for the norm where none was measured; most recipes have 0.25 to 5."""


ADAM: Final[dict[str, Any]] = {"adam": True, "learning_rate": 5e-3, "clip_kind": "norm", "clip": 1.0}
"""What recurrent networks of some hundred units are usually trained with."""


def has_sgd(facts: PatientFacts) -> bool:
    """Whether the optimizer takes steps as long as the gradient is."""
    return facts.optimizer == "SGD"


def _norm(evidence: PatientEvidence) -> dict[str, Any]:
    """At the 90 % quantile of the norms that a watch saw, or twice the usual one, where neither is far off already."""
    usual = evidence.number("usual_gradient_norm", "clipping-missing")
    seen = evidence.facts.gradient_norms
    if usual is not None and usual < _HUGE:
        bound = 2 * usual
    elif seen is not None and not evidence.has_found("exploding-gradient", "non-finite"):
        bound = seen[1]
    else:
        bound = _USUAL
    return {"clip_kind": "norm", "clip": _rounded(bound)}


def _looser(evidence: PatientEvidence) -> dict[str, Any]:
    """Where the median step would just not be clipped, with as much room again."""
    norm = evidence.number("median_norm", "over-clipping")
    return {"clip_kind": "norm", "clip": _rounded(2 * norm) if norm else 0.0}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def has_single_plain_layer(facts: PatientFacts) -> bool:
    """Whether there is a plain recurrent layer whose states can be seen."""
    return any(r.is_plain and not r.one_step and r.num_layers == 1 and not r.bidirectional for r in facts.recurrences)


REMEDIES: Final = (
    Remedy(
        name="clip-norm",
        title="clip the norm at a measured quantile",
        treats=(*_SPIKES, "chaotic-dynamics", "learning-rate-too-high"),
        fits=has_anything,
        change=_norm,
        cost="under 1 % of a step",
        paper="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063",
        does_not_help="a gradient that grows at every step: it points where the oldest steps do, whatever its length",
    ),
    Remedy(
        name="looser-clip",
        title="a clip that lets most steps through",
        treats=("over-clipping",),
        fits=has_anything,
        change=_looser,
        cost="none",
        paper="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, section 3.2: the bound from the mean norm seen",
        does_not_help="where the clip is hard in place of a lower learning rate: lower that too",
    ),
    Remedy(
        name="clip-value",
        title="clip each number",
        treats=_SPIKES,
        fits=has_anything,
        change=lambda _: {"clip_kind": "value", "clip": 0.1},
        cost="none",
        paper="Mikolov 2012, PhD thesis, section 3.3.2",
        does_not_help="where the direction of the gradient matters: it changes it",
    ),
    Remedy(
        name="clip-adaptive",
        title="clip each unit by the size of its weights",
        treats=_SPIKES,
        fits=has_anything,
        change=lambda _: {"clip_kind": "adaptive", "clip": 0.1},
        cost="a few % of a step",
        paper="Brock, De, Smith & Simonyan 2021, arXiv:2102.06171",
        does_not_help="weights that start near zero: they may hardly move",
    ),
    Remedy(
        name="clip-z-score",
        title="clip norms that stand out from those before",
        treats=("clipping-missing", "exploding-gradient"),
        fits=has_anything,
        change=lambda _: {"clip_kind": "z-score", "clip": 2.5},
        cost="under 1 % of a step",
        paper="Kumar et al. 2025, arXiv:2504.02507",
        does_not_help="explosions in the first 25 steps, from which it learns what is usual",
    ),
    Remedy(
        name="omega",
        title="regulariser that keeps the norm through time",
        treats=("vanishing-gradient", "exploding-gradient"),
        fits=has_single_plain_layer,
        change=lambda _: {"omega": 1.0},
        cost="a step takes about 1.5 times as long",
        paper="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, equation 9",
        does_not_help="cells with gates, and several layers in one module",
    ),
    Remedy(
        name="skip-non-finite",
        title="leave out what is not finite: sequences of a batch, and updates",
        treats=("non-finite", "non-finite-data"),
        fits=has_anything,
        change=lambda _: {"drop_non_finite": True},
        cost="under 1 % of a step, and what is left out",
        paper="Micikevicius et al. 2018, arXiv:1710.03740, where such steps are skipped",
        does_not_help="weights that are NaN already, and a formula that fails at every batch",
    ),
)
