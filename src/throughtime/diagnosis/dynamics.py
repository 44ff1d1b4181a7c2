"""What the recurrence does to small changes: it lets them grow, or holds units that never move."""

from __future__ import annotations

import math

import torch

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.far_update import CLIPPED, ORDINARY, SENSITIVE, far_update
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.rates import settled
from throughtime.diagnosis.rule import Rule
from throughtime.measurement import LagProfile

__all__ = ["RULES", "growth"]

_GROWTH_LOG10 = 2.0
"""A gradient that is a hundred times as large at some lag as where it began explodes; healthy ones stay below 3."""
_POSITIVE_NATS = 0.01
"""A leading exponent has to lie so far above zero, its error included, to count."""
_FEWEST_LAGS, _STEADILY = 20, 0.9
"""Lags over which a gradient has to grow for its growth to be that of the dynamics, and its correlation with them."""
_MOSTLY = 0.5
_LEARNED, _FEWEST_LOSSES = 0.1, 10
"""Share of the chance loss that a loop has got rid of, in its last losses: so much shows that it got over its start."""
_DEAD_ERROR, _DEAD_WARNING = 0.9, 0.3
"""Shares of ReLU units that are off at every step of every sequence; a fresh start has about 0.1, a trained net 0.3.
One that starts at the identity with inputs of one sign has 0.6, and what is left of it learns."""


def growth(profile: LagProfile) -> tuple[float, int]:
    """How far the gradient grows beyond its lag-0 value, in log10, and at which lag."""
    values = [(value, lag) for lag, value in enumerate(profile.log10_gradient) if value is not None]
    return max(values) if values else (0.0, 0)


def exploding_gradient(evidence: Evidence) -> Finding | None:
    """The gradient grows with the lag by more than `_GROWTH_LOG10`, now or when the loop was probed, or blew it up.

    Where an update overwrote the weights though its gradient was an ordinary one, and no growth was seen before that,
    the growth is that of the weights which the update left: `overwritten_at` says so, and the cause is its length.
    """
    blown = _blown_up(evidence)
    if blown is not None:
        return blown
    grown, step = _most_grown(evidence)
    largest, lag = growth(grown)
    if largest < _GROWTH_LOG10:
        return None
    clipped = _share_clipped(evidence)
    held = clipped is not None and clipped > _MOSTLY
    factor = 10 ** (largest / max(1, lag))
    when = "" if step is None else f" after step {step}" if step else " before the first step"
    how = f"; {clipped:.0%} of the steps were clipped" if clipped is not None else ""
    overwritten = _overwritten_at(evidence, step)
    if overwritten is not None:
        how += f"; the update of step {overwritten}, of an ordinary gradient, had overwritten the weights before"
    return Finding(
        "exploding-gradient",
        "warning" if held else "error",
        min(0.99, 0.6 + largest / 20),
        f"The gradient by the state of {grown.module} grew by a factor of {factor:.2f} a step on its way back{when} "
        f"and was 10^{largest:.1f} times as large {lag} steps before the loss as at it{how}.",
        {"growth_log10": largest, "at_lag": lag, "factor_per_step": factor, "share_clipped": clipped, "step": step}
        | ({} if overwritten is None else {"overwritten_at": overwritten}),
    )


def _blown_up(evidence: Evidence) -> Finding | None:
    """One of the first updates threw the weights far away, since the gradient was huge and not clipped."""
    far = far_update(evidence)
    if far is None or far.sensitivity < SENSITIVE or far.kept < CLIPPED:
        return None
    return Finding(
        "exploding-gradient",
        "error",
        0.9,
        f"At step {far.step} the gradient's norm was {far.norm:.3g}, unclipped, and that one update was "
        f"{far.ratio:.3g} times as large as the weights: the gradient had exploded on its way back through time.",
        {
            "step": far.step,
            "gradient_norm": far.norm,
            "update_ratio": far.ratio,
            "sensitivity": far.sensitivity,
        },
    )


def _overwritten_at(evidence: Evidence, step: int | None) -> int | None:
    """The step at which an ordinary gradient's update overwrote the weights, before growth was seen after `step`."""
    far = far_update(evidence)
    if far is None or far.sensitivity > ORDINARY or (step is not None and step < far.step):
        return None
    return far.step


def _most_grown(evidence: Evidence) -> tuple[LagProfile, int | None]:
    """The profile in which the gradient grows most, and after which step; of the model as it is, None."""
    found: list[tuple[LagProfile, int | None]] = []
    if evidence.has("gradient"):
        found.append((evidence.gradient.profile, None))
    if evidence.case.history is not None:
        found += [(record.profile, step) for step, record in evidence.case.history.records.items()]
    told = [(profile, step) for profile, step in found if profile.cannot_tell is None]
    if len(told) > 1 and not _came_to_nothing(evidence):
        told = [(profile, step) for profile, step in told if step != 0]  # it got over how it began
    if not told:
        reason = found[0][0].cannot_tell if found else "it cannot be measured here"
        raise Missing(f"a gradient through time: {reason}")
    return max(told, key=lambda each: growth(each[0])[0])


def _came_to_nothing(evidence: Evidence) -> bool:
    """Whether a watched loop ended in NaN, or is no better than a constant output still."""
    history = evidence.case.history
    if history is None or history.non_finite is not None:
        return True
    losses = [loss for loss in history.losses if loss is not None]
    if len(losses) < _FEWEST_LOSSES or not evidence.has("chance_loss"):
        return False
    return settled(losses) > evidence.chance_loss - _LEARNED * abs(evidence.chance_loss)


def chaotic_dynamics(evidence: Evidence) -> Finding | None:
    """The leading Lyapunov exponent is above zero by more than its error, in a state that is bounded.

    Where nothing bounds the state (ReLU), what grows is the state itself: that is an explosion, and no chaos. Of a cell
    written by hand, whose steps nobody sees from outside, the gradient through time tells how small changes grow.
    """
    if not evidence.has("spectrum"):
        return _chaotic_by_hand(evidence)
    layers = {
        name: layer
        for name, layer in evidence.spectrum.layers.items()
        if layer.cannot_tell is None and "relu" not in (layer.functions or {}).values()
    }
    if not layers:
        raise Missing("a bounded recurrence whose Lyapunov exponents can be measured")
    found = [
        (layer.exponents[0] - layer.exponent_errors[0], name)
        for name, layer in layers.items()
        if layer.exponents and layer.exponents[0] is not None and layer.exponent_errors[0] is not None
    ]
    if not found:
        return None
    sure, name = max(found)
    layer = layers[name]
    leading, error = layer.exponents[0], layer.exponent_errors[0]
    assert leading is not None
    assert error is not None
    if sure < _POSITIVE_NATS or leading * layer.num_steps < math.log(10) * _GROWTH_LOG10:
        return None
    return Finding(
        "chaotic-dynamics",
        "error",
        min(0.99, 0.6 + sure),
        f"A small change of the state of {name} grows by a factor of {math.exp(leading):.2f} at each step (leading "
        f"Lyapunov exponent {leading:.3f} ± {error:.3f} nats), so that after {layer.num_steps} steps it is anywhere.",
        {"exponent_nats": leading, "exponent_error": error, "num_steps": layer.num_steps, "module": name},
    )


def _chaotic_by_hand(evidence: Evidence) -> Finding | None:
    """The gradient by the inputs grows with every lag alike, through units that are all bounded.

    Raises:
        Missing: where there is no spectrum, and no such units or gradient either.
    """
    profile = evidence.gradient.profile
    units = evidence.activities if evidence.has("activities") else ()
    if not units or any(unit.function != "tanh" for unit in units) or profile.cannot_tell is not None:
        _ = evidence.spectrum  # it says why it is missing
    largest, last = growth(profile)
    curve = [value for value in profile.log10_gradient[: last + 1] if value is not None]
    if largest < _GROWTH_LOG10 or len(curve) < _FEWEST_LAGS:
        return None
    lags = torch.arange(len(curve), dtype=torch.float64)
    together = torch.corrcoef(torch.stack([lags, torch.tensor(curve, dtype=torch.float64)]))[0, 1]
    if float(together) < _STEADILY:
        return None
    nats = largest * math.log(10) / last
    return Finding(
        "chaotic-dynamics",
        "error",
        0.7,
        f"A small change grows by a factor of {math.exp(nats):.2f} at each step ({nats:.3f} nats), as the gradient by "
        f"the inputs of {last} steps before shows, though {units[0].name} bounds the state: after so many steps it is "
        "anywhere.",
        {"exponent_nats": nats, "num_steps": last, "growth_log10": largest},
    )


def dead_units(evidence: Evidence) -> Finding | None:
    """ReLU units of the state that are off at every step of every sequence."""
    relus = [activity for activity in evidence.activities if activity.function == "relu"]
    if not relus:
        return None
    worst = max(relus, key=lambda activity: activity.stuck)
    if worst.stuck < _DEAD_WARNING:
        return None
    return Finding(
        "dead-units",
        "error" if worst.stuck >= _DEAD_ERROR else "warning",
        min(0.99, 0.5 + worst.stuck / 2),
        f"{worst.stuck:.0%} of the ReLU units of {worst.name} are off at every step of every sequence of the batch: "
        "no gradient passes through them, and they never come back.",
        {"share_dead": worst.stuck, "share_off": worst.low, "module": worst.name},
    )


def _share_clipped(evidence: Evidence) -> float | None:
    """Share of the watched steps that the user's own loop clipped; None where no loop was watched."""
    if evidence.case.history is None:
        return None
    shares = [
        after / before
        for sample in evidence.case.history.samples
        if (before := sample.get("gradient_norm")) and (after := sample.get("clipped_norm")) is not None
    ]
    return sum(share < CLIPPED for share in shares) / len(shares) if shares else None


RULES = (
    Rule("dead-units", dead_units),
    Rule("chaotic-dynamics", chaotic_dynamics),
    Rule("exploding-gradient", exploding_gradient),
)
