"""Remedies that draw the weights of the recurrence anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from throughtime.remedy.application import ring_radii
from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts, RecurrenceFacts
from throughtime.remedy.mean_field import elman_reach, gain_for, gru_reach, identity_reach, lstm_reach, ring_reach

__all__ = ["REMEDIES"]

_FADES = ("vanishing-gradient", "saturated-units", "closed-gates")
_GROWS = ("exploding-gradient", "chaotic-dynamics")
_LARGE = 9.0
"""Mean square of the inputs' features from which on a start of ordinary weights is saturated by them."""
_LONGER = 2
"""Times the need: so far the critical gain has the gradient reach, since training moves the weights."""


def has_matrices(facts: PatientFacts) -> bool:
    """Whether there is a recurrent matrix that can be redrawn."""
    return any((r.is_plain or r.is_gated) and not r.frozen for r in facts.recurrences) or _written(facts, "recurrent ")


def has_plain(facts: PatientFacts) -> bool:
    """Whether one of these belongs to a cell without gates."""
    by_hand = _written(facts, "recurrent ") and not has_gates(facts)
    return any(r.is_plain and not r.frozen for r in facts.recurrences) or by_hand


def has_gates(facts: PatientFacts) -> bool:
    """Whether there is a gate that keeps the state, with a bias."""
    gated = any(r.is_gated and r.biased and not r.frozen for r in facts.recurrences)
    return gated or _written(facts, "keeps-")


def has_modules(facts: PatientFacts) -> bool:
    """Whether there is a recurrent module that can be replaced."""
    return bool(facts.recurrences)


def has_anything(_: PatientFacts) -> bool:
    """Every patient has weights."""
    return True


def reach_of_start(start: str, recurrence: RecurrenceFacts | None, lag: int, gain: float = 1.0) -> int | None:
    """By the formula of the start, for one layer; None for cells that it does not know."""
    if recurrence is None or recurrence.one_step:
        return None
    variance, hidden = recurrence.glorot_variance, recurrence.hidden_size
    if recurrence.is_plain:
        if recurrence.nonlinearity == "relu":
            gain *= 2**0.5
        return elman_reach(gain, variance, hidden, nonlinearity=recurrence.nonlinearity)
    if recurrence.is_gated:
        return (lstm_reach if recurrence.kind == "lstm" else gru_reach)(start, lag, variance, hidden)
    return None


def _written(facts: PatientFacts, kind: str) -> bool:
    return any(part.startswith(kind) for part in facts.hand_written)


def scaled_inputs(evidence: PatientEvidence) -> dict[str, Any]:
    """Inputs of the recurrence so large that they would saturate any start are brought to a mean square of one."""
    main = evidence.main
    if main is None or main.input_square is None or main.input_square <= _LARGE * main.input_size:
        return {}
    return {"recurrent_input_gain": float(f"{(main.input_size / main.input_square) ** 0.5:.3g}")}


def scaled(evidence: PatientEvidence) -> RecurrenceFacts | None:
    """The main recurrence with its inputs as `scaled_inputs` leaves them."""
    main = evidence.main
    return replace(main, input_square=float(main.input_size)) if main is not None and scaled_inputs(evidence) else main


def _start(name: str) -> Any:
    return lambda evidence: {
        "start": name,
        "hand_written": evidence.facts.hand_written,
        **scaled_inputs(evidence),
    }


def lagged(name: str, steps: int | None = None) -> Any:
    """What a start changes that prepares for so many steps; for the lag unless given."""
    return lambda evidence: {**_start(name)(evidence), "start_steps": steps or evidence.lag}


def critical(evidence: PatientEvidence) -> dict[str, Any]:
    """An orthogonal start at the gain whose formula gives twice the lag; at a gain of 1 where there is no formula."""
    main = scaled(evidence)
    gain = None
    if main is not None and main.is_plain and main.nonlinearity == "tanh":
        gain = round(gain_for(_LONGER * evidence.lag, main.glorot_variance, main.hidden_size), 4)
    elif main is None and evidence.has_found("dead-units"):
        gain = round(2**0.5, 4)  # units that can die are ReLUs, which pass half of what comes back
    return {**_start("orthogonal")(evidence), "start_gain": gain}


def _critical_reach(evidence: PatientEvidence) -> int | None:
    gain = critical(evidence)["start_gain"]
    return reach_of_start("orthogonal", scaled(evidence), evidence.lag, gain or 1.0)


def ring(evidence: PatientEvidence) -> dict[str, Any]:
    """Linear recurrent units that prepare for the lag."""
    return {"cell": "lru", "start": "ring", "start_steps": evidence.lag}


def reach_of_ring(evidence: PatientEvidence) -> int | None:
    """Of these units, from their number alone."""
    return None if evidence.main is None else ring_reach(*ring_radii(evidence.lag), evidence.main.hidden_size)


def _fresh(evidence: PatientEvidence) -> dict[str, Any]:
    """Everything, and the recurrence as its other starts would have it; the inputs are of an ordinary size then."""
    start = critical(evidence) if has_matrices(evidence.facts) else {}
    start.pop("recurrent_input_gain", None)
    return {"fresh": True, **start}


def _identity_reach(evidence: PatientEvidence) -> int | None:
    main = evidence.main
    if main is None or not main.is_plain or main.nonlinearity == "relu":
        return None
    square = main.input_size if main.input_square is None else main.input_square
    return identity_reach(1.0, 1e-6 * square, main.input_size, main.hidden_size)


REMEDIES: Final = (
    Remedy(
        name="orthogonal-start",
        title="orthogonal start",
        treats=(*_FADES, *_GROWS, "dead-units"),
        fits=has_matrices,
        change=_start("orthogonal"),
        reaches=lambda evidence: reach_of_start("orthogonal", scaled(evidence), evidence.lag),
        predicts="mean field: log 0.01 / log of gain times the root mean square slope, from the variance of the sums",
        cost="none",
        paper="Saxe, McClelland & Ganguli 2014, arXiv:1312.6120",
        does_not_help="large inputs hold the units in their flat part; training drifts away from it in long runs",
    ),
    Remedy(
        name="critical-start",
        title="orthogonal start at the critical gain",
        treats=("vanishing-gradient", "saturated-units", *_GROWS),
        fits=has_plain,
        change=critical,
        reaches=_critical_reach,
        predicts="the gain is the one at which the same formula gives twice the need",
        cost="none",
        paper="Chen, Pennington & Schoenholz 2018, arXiv:1806.05394",
        does_not_help="cells with gates; inputs that become small: above a gain of 1 the state then moves on its own",
    ),
    Remedy(
        name="critical-start-and-clip",
        title="orthogonal start at the critical gain, clipped to a norm of 1",
        treats=("exploding-gradient",),
        fits=has_matrices,
        change=lambda evidence: {**critical(evidence), "clip_kind": "norm", "clip": 1.0},
        reaches=_critical_reach,
        predicts="as the critical start",
        cost="under 1 % of a step",
        paper="Chen, Pennington & Schoenholz 2018, arXiv:1806.05394; Pascanu et al. 2013, arXiv:1211.5063",
        does_not_help="as either of the two",
    ),
    Remedy(
        name="identity-start",
        title="identity start",
        treats=("vanishing-gradient", "exploding-gradient", "chaotic-dynamics", "dead-units"),
        fits=has_plain,
        change=lambda evidence: {"start": "identity", "hand_written": evidence.facts.hand_written},
        reaches=_identity_reach,
        predicts="of tanh the product of slopes along the walk of each unit, drawn with input weights of 0.001",
        cost="none; small learning rates",
        paper="Le, Jaitly & Hinton 2015, arXiv:1504.00941",
        does_not_help="cells with gates; tasks that need the state to be overwritten or counted through",
    ),
    Remedy(
        name="forget-bias",
        title="forget bias of 1",
        treats=("closed-gates", "vanishing-gradient"),
        fits=has_gates,
        change=_start("forget-bias"),
        reaches=lambda evidence: reach_of_start("forget-bias", scaled(evidence), evidence.lag),
        predicts="mean field: the forget gate of sigmoid(1), beside the path through the candidate",
        cost="none",
        paper="Jozefowicz, Zaremba & Sutskever 2015, ICML",
        does_not_help="needs of more than some 50 steps",
    ),
    Remedy(
        name="chrono-start",
        title="chrono start",
        treats=("closed-gates", "vanishing-gradient"),
        fits=has_gates,
        change=lagged("chrono"),
        reaches=lambda evidence: reach_of_start("chrono", scaled(evidence), evidence.lag),
        predicts="mean field: one forget gate of u / (1 + u) for each unit, u uniform up to the need",
        cost="none",
        paper="Tallec & Ollivier 2018, arXiv:1804.11188",
        does_not_help="where the near past matters most, few units are left to hold it",
    ),
    Remedy(
        name="uniform-gate-start",
        title="uniform gates",
        treats=("closed-gates", "vanishing-gradient"),
        fits=has_gates,
        change=_start("uniform-gate"),
        cost="none",
        paper="Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, arXiv:1910.09890",
        does_not_help="needs longer than the number of units: the slowest gate is 1 - 1/H",
    ),
    Remedy(
        name="ring-start",
        title="linear recurrent units, ring start",
        treats=("vanishing-gradient", *_GROWS, "saturated-units", "dead-units"),
        fits=has_modules,
        change=ring,
        reaches=reach_of_ring,
        predicts="exact: the mean of |lambda|^(2k) over the units",
        cost="the cell is replaced: linear in its state, all steps at once, about the time of a GRU",
        paper="Orvieto et al. 2023, arXiv:2303.06349",
        does_not_help="one layer has no nonlinearity in time: what is computed on the way needs layers above it",
    ),
    Remedy(
        name="gradient-flossing",
        title="gradient flossing before training",
        treats=("vanishing-gradient", *_GROWS),
        fits=lambda facts: any(r.kind in ("rnn", "gru", "lstm") and not r.one_step for r in facts.recurrences),
        change=lambda _: {"flossing": 100},
        cost="100 steps before training, each some 10 times as long as one of training",
        paper="Engelken 2023, arXiv:2312.17306",
        does_not_help="what fades for want of slope (saturation) or at a cut",
    ),
    Remedy(
        name="fresh-start",
        title="all weights drawn anew, orthogonal in the recurrence",
        treats=("plateau", "dead-units", "saturated-units", "weak-recurrence"),
        fits=has_anything,
        change=_fresh,
        cost="what was learned or loaded is lost",
        paper="Glorot & Bengio 2010, AISTATS: starts have to break the symmetry of units",
        does_not_help="a start that was broken on purpose elsewhere, as by a scale in the forward pass",
    ),
)
