"""The gradient does not reach: five causes that look alike, told apart, and what only looks like one of them."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.diagnosis import no_signal
from throughtime.diagnosis.activity import Activity
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.learning import learns
from throughtime.diagnosis.rule import Rule
from throughtime.measurement import LagProfile

__all__ = ["RULES", "Shortfall", "shortfall"]

_FAINT_LOG10 = -4.0
"""A gradient that is weaker than this at the needed lag is drowned by that of the newer steps."""
_FLAT_ERROR = 0.5
"""Share of tanh units in their flat part from which on saturation is the cause; an ordinary start has under 0.1."""
_CLOSED_GATE = 0.2
"""Mean of forget (LSTM) or update (GRU) gates below which the state is gone in three steps; at the start it is 0.5."""
_FADES_FAST = 1 - _CLOSED_GATE
"""A gate near an end keeps next to nothing or, taken the other way, at least so much: a gradient that keeps as much
from step to step says that it is the other way."""
_MOST_TOLD = 0.5
"""Of what the data tell, told where the gradient is not faint: a model learns that first, and reaches farther then."""
_UNHEARD = 0.05
"""Share of the change of the outputs that all older inputs make together, below which the past is not heard."""
_HARDLY_WIRED = 0.01
"""The same with weights drawn anew; an ordinary network has 0.2 to 1."""
_MANY_DEAD, _ALL_FLAT = 0.5, 0.9


@dataclass(frozen=True)
class Shortfall:
    """The gradient fades before it reaches what is needed.

    Attributes:
        need: steps that the task needs; None where only the fading itself is abnormal.
        profile: of the layer that reaches farthest.
        log10_at_need: what is left of the gradient there; None for nothing.
        learns: whether the model learns all the same.
        told: of what lags up to the need tell of the target, what those tell at which the gradient is not faint yet;
            None where no single lags tell anything.
    """

    need: int | None
    profile: LagProfile
    log10_at_need: float | None
    learns: bool
    told: float | None = None

    @property
    def severity(self) -> str:
        """An error, unless the model learns all the same, or most of what the data tell lies where it reaches."""
        return "warning" if self.learns or (self.told is not None and self.told >= _MOST_TOLD) else "error"

    @property
    def words(self) -> str:
        """The numbers, as half a sentence."""
        longest = len(self.profile.log10_gradient) - 1
        of_need = f"the {self.need} steps that the data needs" if self.need is not None else f"{longest} steps"
        factor = self.profile.decay_per_step
        shrinks = f"shrinks by {factor:.2f} a step and " if factor is not None else ""
        reached = f"The gradient {shrinks}reaches {self.profile.reach} of {of_need}"
        enough = self.told is not None and self.told >= _MOST_TOLD
        return f"{reached} (before it is faint it reaches {self.told:.0%} of what these tell)" if enough else reached

    @property
    def evidence(self) -> dict[str, object]:
        """The numbers by name."""
        return {
            "need": self.need,
            "reach": self.profile.reach,
            "decay_per_step": self.profile.decay_per_step,
            "log10_at_need": self.log10_at_need,
            "told_before_faint": self.told,
            "module": self.profile.module,
        }


def shortfall(evidence: Evidence) -> Shortfall | None:
    """Whether the gradient fades before the needed lag; None where it reaches.

    Raises:
        Missing: where need or reach cannot be told, or are not counted in the same steps.
    """
    profile = _profile(evidence)
    if profile.own_steps:
        raise Missing(f"a reach in steps of the inputs, as the need is; {profile.module} has steps of its own")
    need = evidence.need
    longest = len(profile.log10_gradient) - 1
    if profile.reach is None or profile.reach_censored or profile.reach >= need:
        return None
    left = profile.log10_gradient[min(need, longest)]
    if left is not None and left > _FAINT_LOG10:
        return None
    return Shortfall(need, profile, left, learns(evidence), _told_before_faint(evidence, profile))


def _told_before_faint(evidence: Evidence, profile: LagProfile) -> float | None:
    """Of what the data tell at single lags, the share at those from which the gradient is not faint."""
    record = evidence.need_record if evidence.case.need is None and evidence.has("need_record") else None
    if record is None or record.need != evidence.need:
        return None  # the need is its user's, or that of a block of lags
    curve = profile.log10_gradient
    faint = next((lag for lag, left in enumerate(curve) if left is None or left <= _FAINT_LOG10), len(curve))
    within = max((told for lag, told in zip(record.lags, record.explained, strict=True) if lag < faint), default=0.0)
    return max(0.0, within) / max(record.explained)


def saturated_units(evidence: Evidence) -> Finding | None:
    """The gradient fades, and more than half of the tanh units of the state sit in their flat part."""
    flattest = _flattest(evidence)
    if flattest is None or flattest.flat < _FLAT_ERROR:
        return None
    short = _short_or_faded(evidence)
    if short is None:
        return None
    return Finding(
        "saturated-units",
        short.severity,
        min(0.99, 0.4 + 0.6 * flattest.flat),
        f"{short.words}, because {flattest.flat:.0%} of the activations of {flattest.name} lie in the flat part of "
        f"their curve ({flattest.low:.0%} at the lower end, {flattest.high:.0%} at the upper), where hardly any "
        "gradient passes.",
        {**short.evidence, "share_flat": flattest.flat, "share_stuck": flattest.stuck, "units": flattest.name},
    )


def closed_gates(evidence: Evidence) -> Finding | None:
    """The gradient fades, and the gates that keep the state are nearly shut.

    Of an LSTM these are the forget gates, of a GRU the update gates. Of a cell written by hand nobody can know which
    way its gates work; one that stands near either end while the gradient fades is the one.
    """
    gate = _shut_gate(evidence)
    if gate is None:
        return None
    short = _short_or_faded(evidence)
    if short is None:
        return None
    name, kept = gate
    return Finding(
        "closed-gates",
        short.severity,
        min(0.99, 1 - kept),
        f"{short.words}, because the gates {name} stand at such an end that only {kept:.3f} of the state is kept from "
        "step to step.",
        {**short.evidence, "share_kept": kept, "gate": name},
    )


def _shut_gate(evidence: Evidence) -> tuple[str, float] | None:
    """The gate that keeps least of the state, and how much, if that is less than `_CLOSED_GATE`."""
    gates = [activity for activity in evidence.activities if activity.function == "sigmoid"]
    if not gates:
        raise Missing("a recurrence with gates")
    known = [(gate.name, gate.mean) for gate in gates if gate.name.rsplit(".", 1)[-1] in ("f", "z")]
    fades = _profile(evidence).decay_per_step
    either = not evidence.has("spectrum") and (fades is None or fades < _FADES_FAST)
    by_hand = [(gate.name, min(gate.mean, 1 - gate.mean)) for gate in gates if either]
    name, kept = min(known or by_hand, key=lambda gate: gate[1], default=("", 1.0))
    return (name, kept) if kept < _CLOSED_GATE else None


def truncated_window(evidence: Evidence) -> Finding | None:
    """The training window is shorter than need, or the gradient is exactly zero from some lag on."""
    window = evidence.case.window
    if window is not None:
        need = evidence.need
        if need < window:
            return None
        return Finding(
            "truncated-window",
            "warning" if learns(evidence) else "error",
            0.95,
            f"The training window has {window} steps and the data needs {need}: no gradient reaches back that far.",
            {"window": window, "need": need},
        )
    profile = _profile(evidence)
    cut = _cut(profile)
    if cut is None or _blocked(evidence):
        return None
    need_known = evidence.has("need")
    if need_known and evidence.need < cut:
        return None
    if not need_known and (profile.kind != "state" or learns(evidence)):
        return None
    by = f"the state of {profile.module}" if profile.kind == "state" else "the inputs"
    return Finding(
        "truncated-window",
        "warning" if learns(evidence) else "error",
        0.95 if need_known else 0.7,
        f"The gradient by {by} is exactly zero from {cut} steps back on, where one step "
        f"before it still was 10^{profile.log10_gradient[cut - 1]:.1f}: it is cut off (a detach?)"
        + (f", and the data needs {evidence.need} steps." if need_known else "."),
        {"cut_at_lag": cut, "need": evidence.need if need_known else None, "module": profile.module},
    )


def vanishing_gradient(evidence: Evidence) -> Finding | None:
    """The gradient fades before the needed lag, and the recurrent weights contract."""
    short = shortfall(evidence)
    if short is None:
        return None
    radii = _radii(evidence)
    flattest = _flattest(evidence)
    radius = max(radii.values(), default=None)
    recurrent = (
        f"the recurrent matrix has spectral radius {radius:.2f}" if radius is not None else "each step contracts"
    )
    flat = f" and {flattest.flat:.0%} of the units are saturated" if flattest is not None else ""
    so = ", so the weights contract" if radius is not None and radius < 1 else ""
    return Finding(
        "vanishing-gradient",
        short.severity,
        0.9,
        f"{short.words}; {recurrent}{flat}{so}.",
        {**short.evidence, "spectral_radius": radii, "share_flat": flattest.flat if flattest else None},
    )


def weak_recurrence(evidence: Evidence) -> Finding | None:
    """The gradient reaches as far as it must, and yet older inputs hardly change the outputs.

    Where it does not reach, that may be what a training has done to a state of which its loss hears next to nothing;
    then it is hardly heard with any weights.
    """
    profile = _profile(evidence)
    need = evidence.need
    if need < 1 or profile.reach is None:
        return None
    if shortfall(evidence) is not None:
        return _hardly_wired(evidence, need, profile.reach)
    share = evidence.influence
    if share >= _UNHEARD:
        return _hardly_wired(evidence, need, profile.reach)
    return Finding(
        "weak-recurrence",
        "warning" if learns(evidence) else "error",
        min(0.99, 1 - share * 4),
        f"The data needs {need} steps and the gradient reaches {profile.reach}, but replacing all older inputs changes "
        f"the outputs by {share:.1%} of what replacing the present one too does: the model ignores its state.",
        {"need": need, "reach": profile.reach, "influence_of_older_inputs": share},
    )


def _hardly_wired(evidence: Evidence, need: int, reach: int) -> Finding | None:
    """A state that is heard beside inputs which a training has turned down: by its wiring it is not.

    Present inputs that say nothing lose their weights, and then what is left of the past is most of what is left.
    """
    if learns(evidence) or not evidence.has("influence_as_wired"):
        return None
    share = evidence.influence_as_wired
    if share >= _HARDLY_WIRED:
        return None
    return Finding(
        "weak-recurrence",
        "error",
        0.8,
        f"The data needs {need} steps and the gradient reaches {reach}; with weights of an ordinary size replacing "
        f"all older inputs changes the outputs by {share:.2%} of what replacing the present one too does, and the "
        "model does not learn: its state is hardly heard.",
        {"need": need, "reach": reach, "influence_of_older_inputs": share},
    )


def _profile(evidence: Evidence) -> LagProfile:
    profile = evidence.gradient.profile
    if profile.cannot_tell is not None:
        raise Missing(f"a gradient that can be measured: {profile.cannot_tell}")
    if profile.kind != "state" and not evidence.has("activities"):
        raise Missing("a recurrence; the model has none")
    return profile  # of a cell whose state nobody sees from outside, by its inputs


def _short_or_faded(evidence: Evidence) -> Shortfall | None:
    """A shortfall; where need cannot be told, a gradient that fades in a model that does not learn."""
    profile = _profile(evidence)
    if evidence.has("need") and not profile.own_steps:
        return shortfall(evidence)
    longest = len(profile.log10_gradient) - 1
    if profile.reach is None or profile.reach_censored or profile.reach > longest / 4:
        return None
    left = profile.log10_gradient[longest]
    if (left is not None and left > _FAINT_LOG10) or learns(evidence):
        return None
    return Shortfall(None, profile, left, learns=False)


def _cut(profile: LagProfile) -> int | None:
    """The lag from which on the gradient is exactly zero, although it had not faded one lag before."""
    curve = profile.log10_gradient
    zeros = [lag for lag, value in enumerate(curve) if value is None]
    if not zeros or any(value is not None for value in curve[zeros[0] :]) or zeros[0] == 0:
        return None
    before = curve[zeros[0] - 1]
    return zeros[0] if before is not None and before > -100 else None


def _blocked(evidence: Evidence) -> bool:
    """Whether units that are off, or so flat that their slope rounds to zero, cut the gradient."""
    if not evidence.has("activities"):
        return False
    return any(
        activity.stuck > _MANY_DEAD if activity.function == "relu" else activity.flat > _ALL_FLAT
        for activity in evidence.activities
        if activity.function != "sigmoid"
    )


def _flattest(evidence: Evidence) -> Activity | None:
    """The tanh units of the recurrence that are flat most often."""
    if not evidence.has("activities"):
        return None
    tanh = [activity for activity in evidence.activities if activity.function == "tanh"]
    return max(tanh, key=lambda activity: activity.flat, default=None)


def _radii(evidence: Evidence) -> dict[str, float]:
    """Spectral radii of the recurrent matrices, by layer and gate."""
    if not evidence.has("spectrum"):
        return {}
    return {
        f"{name}.{gate}": radius
        for name, layer in evidence.spectrum.layers.items()
        for gate, radius in (layer.spectral_radius or {}).items()
    }


RULES = (
    Rule("no-signal", no_signal.find),
    Rule("truncated-window", truncated_window),
    Rule("saturated-units", saturated_units),
    Rule("closed-gates", closed_gates),
    Rule("vanishing-gradient", vanishing_gradient),
    Rule("weak-recurrence", weak_recurrence),
)
