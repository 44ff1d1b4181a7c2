"""Remedies that draw the weights of the recurrence anew."""

from __future__ import annotations

from typing import Any, Final

from throughtime.remedy.application import ring_radii
from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts, RecurrenceFacts
from throughtime.remedy.mean_field import elman_reach, gain_for, gru_reach, lstm_reach, ring_reach

__all__ = ["REMEDIES"]

_FADES = ("vanishing-gradient", "saturated-units", "closed-gates")
_GROWS = ("exploding-gradient", "chaotic-dynamics")
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


def _start(name: str, **more: Any) -> Any:
    return lambda evidence: {"start": name, "hand_written": evidence.facts.hand_written, **more}


def _lagged(name: str) -> Any:
    return lambda evidence: {
        "start": name,
        "start_steps": evidence.lag,
        "hand_written": evidence.facts.hand_written,
    }


def _critical(evidence: PatientEvidence) -> dict[str, Any]:
    main = evidence.main
    gain = None
    if main is not None and main.nonlinearity == "tanh":
        gain = round(gain_for(_LONGER * evidence.lag, main.glorot_variance, main.hidden_size), 4)
    return {"start": "orthogonal", "start_gain": gain, "hand_written": evidence.facts.hand_written}


def _critical_reach(evidence: PatientEvidence) -> int | None:
    gain = _critical(evidence)["start_gain"]
    return reach_of_start("orthogonal", evidence.main, evidence.lag, gain or 1.0)


def _identity_reach(evidence: PatientEvidence) -> int | None:
    main = evidence.main
    if main is None or not main.is_plain or main.nonlinearity == "relu":
        return None
    square = main.input_size if main.input_square is None else main.input_square
    return elman_reach(1.0, 1e-6 * square, main.hidden_size)


REMEDIES: Final = (
    Remedy(
        name="orthogonal-start",
        title="orthogonal start",
        treats=(*_FADES[:2], *_GROWS, "dead-units"),
        fits=has_matrices,
        change=_start("orthogonal"),
        reaches=lambda evidence: reach_of_start("orthogonal", evidence.main, evidence.lag),
        predicts="mean field: log 0.01 / log of gain times the root mean square slope, from the variance of the sums",
        cost="none",
        paper="Saxe, McClelland & Ganguli 2014, arXiv:1312.6120",
        does_not_help="large inputs hold the units in their flat part; training drifts away from it in long runs",
    ),
    Remedy(
        name="critical-start",
        title="orthogonal start at the critical gain",
        treats=("vanishing-gradient", "saturated-units"),
        fits=has_plain,
        change=_critical,
        reaches=_critical_reach,
        predicts="the gain is the one at which the same formula gives twice the need",
        cost="none",
        paper="Chen, Pennington & Schoenholz 2018, arXiv:1806.05394",
        does_not_help="cells with gates; with a gain above 1, inputs that become small let the state live a life of its own",
    ),
    Remedy(
        name="identity-start",
        title="identity start",
        treats=("vanishing-gradient", "exploding-gradient", "chaotic-dynamics", "dead-units"),
        fits=has_plain,
        change=_start("identity"),
        reaches=_identity_reach,
        predicts="of tanh as the orthogonal start with input weights of 0.001; of ReLU a factor of 1 a step where active",
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
        reaches=lambda evidence: reach_of_start("forget-bias", evidence.main, evidence.lag),
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
        change=_lagged("chrono"),
        reaches=lambda evidence: reach_of_start("chrono", evidence.main, evidence.lag),
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
        change=lambda evidence: {"cell": "lru", "start": "ring", "start_steps": evidence.lag},
        reaches=lambda evidence: (
            ring_reach(*ring_radii(evidence.lag), evidence.main.hidden_size) if evidence.main is not None else None
        ),
        predicts="exact: the mean of |lambda|^(2k) over the units",
        cost="the cell is replaced: linear in its state, all steps at once, about the time of a GRU",
        paper="Orvieto et al. 2023, arXiv:2303.06349",
        does_not_help="a single layer has no nonlinearity in time: what has to be computed on the way needs layers above",
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
        title="all weights drawn anew",
        treats=("plateau", "dead-units", "saturated-units", "weak-recurrence"),
        fits=has_anything,
        change=lambda _: {"start": "fresh"},
        cost="what was learned or loaded is lost",
        paper="Glorot & Bengio 2010, AISTATS: starts have to break the symmetry of units",
        does_not_help="a start that was broken on purpose elsewhere, as by a scale in the forward pass",
    ),
)
