"""Remedies that change what the recurrence is made of."""

from __future__ import annotations

from typing import Any, Final

from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts
from throughtime.remedy.mean_field import gru_reach, lstm_reach, skip_reach
from throughtime.remedy.of_gradient import ADAM, has_sgd
from throughtime.remedy.of_start import has_gates, has_modules, lagged, reach_of_start, scaled, scaled_inputs
from throughtime.remedy.of_training import decay

__all__ = ["REMEDIES"]

_FADES_OR_GROWS = ("vanishing-gradient", "saturated-units", "exploding-gradient", "chaotic-dynamics", "dead-units")
_HEARD = 0.5
"""Share of the outputs' change that the past is to make after the recurrence was amplified."""
_LARGEST_GAIN = 1e7
_MORE_DECAY = 3
"""Times the usual: a cell without recurrent weights, or with gates that begin open, has no memory for it to shorten."""
_LARGE = 2.0
"""Mean square of the features from which on it is worth while to bring it to 1."""


def has_gateless_module(facts: PatientFacts) -> bool:
    """Whether there is a plain recurrent module, which an LSTM can replace."""
    return any(r.is_plain for r in facts.recurrences)


def _has_heard_part(facts: PatientFacts) -> bool:
    return bool(facts.recurrences) or any(part.startswith("reader ") for part in facts.hand_written)


def _swapped(evidence: PatientEvidence, kind: str) -> dict[str, Any]:
    return {"cell": kind, "start": "chrono", "start_steps": evidence.lag, **scaled_inputs(evidence)}


def _swapped_reach(evidence: PatientEvidence, kind: str) -> int | None:
    main = scaled(evidence)
    if main is None:
        return None
    reach = lstm_reach if kind == "lstm" else gru_reach
    return reach("chrono", evidence.lag, main.glorot_variance, main.hidden_size)


def _amplified(evidence: PatientEvidence) -> dict[str, Any]:
    """The gain that brings the share of older inputs to a half, if outputs are a sum of both parts."""
    share = evidence.number("influence_of_older_inputs", "weak-recurrence") or 0.01
    share = max(share, 1 / _LARGEST_GAIN)
    gain = _HEARD / (1 - _HEARD) * (1 - share) / share
    return {"recurrent_gain": float(f"{max(gain, 1.0):.3g}"), "hand_written": evidence.facts.hand_written}


def _simpler(evidence: PatientEvidence) -> dict[str, Any]:
    return {"cell": "mingru", **_more_decay(evidence)}


def _more_decay(evidence: PatientEvidence) -> dict[str, Any]:
    return {"weight_decay": float(f"{_MORE_DECAY * decay(evidence):.3g}")}


def _whole(evidence: PatientEvidence) -> int:
    """All steps of a sequence: the need of few examples is not known well enough to prepare for less."""
    return max(2, evidence.facts.num_steps or evidence.lag)


def _normalised(evidence: PatientEvidence) -> dict[str, Any]:
    main = evidence.main
    square = main.input_square if main is not None else None
    if main is None or not square:
        return {"recurrent_input_gain": 0.1}
    if square <= _LARGE * main.input_size:
        return {}
    return {"recurrent_input_gain": float(f"{(main.input_size / square) ** 0.5:.3g}")}


def _skip_steps(evidence: PatientEvidence) -> int:
    return max(2, min(evidence.lag // 4, 64))


def _skip_reach(evidence: PatientEvidence) -> int | None:
    decay = evidence.number("decay_per_step", "vanishing-gradient")
    return None if decay is None or decay >= 1 else skip_reach(_skip_steps(evidence), decay)


REMEDIES: Final = (
    Remedy(
        name="lstm-chrono",
        title="LSTM, chrono start",
        treats=(*_FADES_OR_GROWS, "weak-recurrence"),
        fits=has_gateless_module,
        change=lambda evidence: _swapped(evidence, "lstm"),
        reaches=lambda evidence: _swapped_reach(evidence, "lstm"),
        predicts="as the chrono start",
        cost="four times the recurrent weights; a step takes 1.5 to 4 times as long",
        paper="Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; Tallec & Ollivier 2018, arXiv:1804.11188",
        does_not_help="where memory or time is bounded, and where the fault lies outside of the recurrence",
    ),
    Remedy(
        name="lstm-chrono-adam",
        title="LSTM, chrono start, trained by Adam, clipped",
        treats=("exploding-gradient", "chaotic-dynamics"),
        fits=lambda facts: has_gateless_module(facts) and has_sgd(facts),
        change=lambda evidence: {**_swapped(evidence, "lstm"), **ADAM},
        reaches=lambda evidence: _swapped_reach(evidence, "lstm"),
        predicts="as the chrono start",
        cost="as an LSTM, and two numbers more for each weight",
        paper="Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; Kingma & Ba 2015, arXiv:1412.6980",
        does_not_help="as LSTM, chrono start, whose gates a rate made for a plain cell may leave as they were",
    ),
    Remedy(
        name="gru-chrono",
        title="GRU, chrono start",
        treats=_FADES_OR_GROWS,
        fits=has_gateless_module,
        change=lambda evidence: _swapped(evidence, "gru"),
        reaches=lambda evidence: _swapped_reach(evidence, "gru"),
        predicts="as the chrono start",
        cost="three times the recurrent weights; a step takes 1.5 to 3 times as long",
        paper="Cho et al. 2014, arXiv:1406.1078; Tallec & Ollivier 2018, arXiv:1804.11188",
        does_not_help="as LSTM, chrono start; counting, for which its state is bounded",
    ),
    Remedy(
        name="input-gates",
        title="minGRU, whose gates see the input alone, with weight decay",
        treats=("overfitting",),
        fits=has_modules,
        change=_simpler,
        cost="the cell is replaced by one without recurrent weights; all steps at once, so that a step is no slower",
        paper="Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv:2410.01201; Krogh & Hertz 1992, NIPS",
        does_not_help="where what a step does depends on the state, as in counting; one layer cannot do that",
    ),
    Remedy(
        name="chrono-decay",
        title="chrono start and weight decay",
        treats=("overfitting",),
        fits=has_gates,
        change=lambda evidence: {**lagged("chrono", _whole(evidence))(evidence), **_more_decay(evidence)},
        reaches=lambda evidence: reach_of_start("chrono", scaled(evidence), _whole(evidence)),
        predicts="as the chrono start",
        cost="none",
        paper="Tallec & Ollivier 2018, arXiv:1804.11188; Krogh & Hertz 1992, NIPS",
        does_not_help="as the chrono start; data too few to tell the rule from chance",
    ),
    Remedy(
        name="orthogonal-cell",
        title="recurrent matrix that stays orthogonal",
        treats=("vanishing-gradient", "exploding-gradient", "chaotic-dynamics"),
        fits=has_gateless_module,
        change=lambda _: {"cell": "orthogonal"},
        reaches=lambda evidence: reach_of_start("orthogonal", evidence.main, evidence.lag),
        predicts="as the orthogonal start, and while it trains",
        cost="a linear system in H unknowns each step; a step takes 1.2 to 2 times as long",
        paper="Helfrich, Willmott & Ye 2018, arXiv:1707.09520",
        does_not_help="large inputs; tasks that need to forget",
    ),
    Remedy(
        name="layer-norm",
        title="normalised state",
        treats=("saturated-units", "exploding-gradient", "dead-units"),
        fits=has_modules,
        change=lambda _: {"layer_norm": True},
        cost="1.5 to 3 times the time of a step: no fused kernel; weights of the recurrence are drawn anew",
        paper="Ba, Kiros & Hinton 2016, arXiv:1607.06450",
        does_not_help="fading along gates; the norm itself shrinks gradients where the state is large",
    ),
    Remedy(
        name="skip-in-time",
        title="skip connection in time",
        treats=("vanishing-gradient",),
        fits=has_modules,
        change=lambda evidence: {"skip": _skip_steps(evidence)},
        reaches=_skip_reach,
        predicts="v_t = s^2 (v_(t-1) + v_(t-k)) / 2 with s as measured a step before",
        cost="no fused kernel, and k states kept: 2 to 5 times the time of a step; weights are drawn anew",
        paper="Lin, Horne, Tino & Giles 1996, doi:10.1109/72.548162 (NARX); Zhang et al. 2016, arXiv:1602.08210",
        does_not_help="saturated units, and needs far beyond ten times what the cell reaches alone",
    ),
    Remedy(
        name="amplify-recurrence",
        title="let the outputs hear the state",
        treats=("weak-recurrence",),
        fits=_has_heard_part,
        change=_amplified,
        cost="none",
        paper="Bowman et al. 2016, arXiv:1511.06349, on decoders that ignore what they are given",
        does_not_help="where the data do not need the past, and where a shortcut is learned first: take it away",
    ),
    Remedy(
        name="scale-recurrent-inputs",
        title="inputs of the recurrence scaled to a mean square of one",
        treats=("saturated-units", "unscaled-input"),
        fits=has_modules,
        change=_normalised,
        cost="none",
        paper="LeCun, Bottou, Orr & Müller 1998, *Efficient BackProp*, section 4.3",
        does_not_help="saturation by the recurrence itself or by biases",
    ),
    Remedy(
        name="keep-graph",
        title="no detach inside the model",
        treats=("truncated-window",),
        fits=lambda facts: facts.window is None,
        change=lambda _: {"keep_graph": True},
        cost="memory and time of backpropagation through the whole sequence",
        paper="Williams & Peng 1990, doi:10.1162/neco.1990.2.4.490",
        does_not_help="a window cut by the training loop; a state that the model keeps from batch to batch, attached",
    ),
)
