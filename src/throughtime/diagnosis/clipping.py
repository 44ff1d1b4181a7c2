"""over-clipping and clipping-missing: what the loop does, or does not do, to large gradients."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.non_finite import by_formula
from throughtime.diagnosis.optimizers import largest_eps, scale_free
from throughtime.diagnosis.rates import settled
from throughtime.measurement import WatchRecord

__all__ = ["clip_seen", "find_missing", "find_over", "most_is_clipped", "spiked"]

FEWEST_SAMPLES = 4
"""Of a history, to speak of most steps."""

CLIPPED = 0.999
"""Norm seen by the optimizer / norm before: clipping to a norm gives at most this, rounding gives more."""

MOST_STEPS_SHARE = 0.9
HARD = 0.05
"""At most this is left of the gradient at the median step. Loops that clip by habit leave 0.1 or more of most steps:
language models are trained at a rate of 20 with a clip of 0.25 where norms are about 1."""

LITTLE_PROGRESS = 0.1
"""Of what the same steps without clipping gain on one batch."""

SPIKE = 10.0
"""Times the median of the steps before it, of a loss or of a gradient's norm. In a healthy loop they are
within a factor of about 3 of it; and a rate that is too high lets the loss grow by less in one step, and often."""

RARE_SHARE = 0.15
"""More spikes than this are no rare ones, but how this model always is."""

BEFORE, AFTER = 10, 3
"""Steps compared before and after a spike; the spike's own batch is left out, as it may be an odd one."""

RECENT = 5
"""The last of these say how high the loss was."""

DAMAGE_SDS = 4.0
"""By how many standard deviations of the losses before it, off their straight line, the loss is higher after it."""

DAMAGE_SHARE = 0.2
"""And by at least this share of their median."""


def clip_seen(history: WatchRecord | None) -> float | None:
    """The largest norm that a clipped gradient was left with; None where none was clipped."""
    if history is None:
        return None
    pairs = _norms(history)
    clipped = [after for before, after in pairs if after < CLIPPED * before]
    return max(clipped) if clipped and len(clipped) >= 0.05 * len(pairs) else None


def most_is_clipped(history: WatchRecord) -> bool:
    """Whether hardly anything is left of the gradient at the median step."""
    pairs = _norms(history)
    return bool(pairs) and statistics.median(after / before for before, after in pairs) <= HARD


def spiked(history: WatchRecord) -> bool:
    """Whether rare spikes damaged the loss."""
    return history.losses_every == 1 and bool(_damaging(history))


def find_over(evidence: Evidence) -> Finding | None:
    """Only the loop itself shows what it clips."""
    history = evidence.case.history
    if history is None:
        raise Missing("a watch of the training loop: only the loop itself shows what it clips")
    pairs = _norms(history)
    if len(pairs) < FEWEST_SAMPLES:
        raise Missing(f"a watch of at least {FEWEST_SAMPLES} sampled steps")
    share = sum(after < CLIPPED * before for before, after in pairs) / len(pairs)
    left = statistics.median(after / before for before, after in pairs)
    if share < MOST_STEPS_SHARE or left > HARD:
        return None
    rate = _rate(history)
    severity, why = _gravity(evidence, history, left)
    effective = rate * left if rate is not None and evidence.case.optimizers else None
    told = f"; the effective learning rate is {effective:.2g}, not {rate:.2g}" if effective is not None else ""
    raw, seen = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    return Finding(
        "over-clipping",
        severity,
        min(1.0, share * (1 - left)),
        f"{share:.0%} of the steps are clipped, from a norm of {raw:.3g} to {seen:.3g} at the median, which leaves "
        f"{left:.2g} of the gradient{told}{why}",
        {
            "clipped_share": share,
            "median_left": left,
            "median_norm": raw,
            "median_clipped_norm": seen,
            "learning_rate": rate,
            "effective_learning_rate": effective,
            "num_samples": len(pairs),
        },
    )


def _gravity(evidence: Evidence, history: WatchRecord, left: float) -> tuple[str, str]:
    """How much it matters, and why."""
    optimizers = evidence.case.optimizers
    if scale_free(optimizers):
        norms = [after for _, after in _norms(history)]
        numbers = sum(p.numel() for p in evidence.case.model.parameters())
        if statistics.median(norms) / math.sqrt(numbers) > 10 * largest_eps(optimizers):
            name = type(optimizers[0]).__name__
            return "info", f", which hardly matters: {name} divides the gradient by its own size"
    if not optimizers:
        return (
            "warning",
            "; an optimizer of Adam's kind, which divides by the gradient's own size, makes up for most of it",
        )
    present = evidence.rates.losses(left)
    unclipped = evidence.rates.losses(1.0)
    gained, possible = present[0] - settled(present), unclipped[0] - settled(unclipped)
    if possible > 0 and gained < LITTLE_PROGRESS * possible:
        return "error", (
            f"; on one batch {len(present)} steps so clipped lower the loss by {gained:.2g}, without clipping by "
            f"{possible:.2g}"
        )
    return "warning", ""


@dataclass(frozen=True)
class _Spike:
    """A step whose loss or gradient is far above what it was, and what came of it.

    Attributes:
        step: from 1.
        what: "loss" or "gradient", of that step.
        times: as large as the median of the steps before.
        loss_before: median of the steps before.
        loss_after: the least of some steps after it; infinite where it is no number any more.
        steps_after: how many these are.
    """

    step: int
    what: str
    times: float
    loss_before: float
    loss_after: float
    steps_after: int


def find_missing(evidence: Evidence) -> Finding | None:
    """Spikes that the loop let through, and what the loss was before and after."""
    history = evidence.case.history
    if history is None:
        raise Missing("a watch of the training loop: spikes are rare, and come with the batches of the loop")
    if sum(loss is not None for loss in history.losses) < BEFORE + AFTER:
        raise Missing(f"a watch of at least {BEFORE + AFTER} steps with their losses (watch.loss)")
    if history.losses_every != 1:
        raise Missing("the loss of every step: of so long a watch only means are left")
    damaging = _damaging(history)
    if not damaging:
        return None
    first = damaging[0]
    if not math.isfinite(first.loss_after) and by_formula(history):
        return None  # near the edge of what a logarithm or a root takes gradients are huge: that is no spike
    after = f"{first.loss_after:.3g}" if math.isfinite(first.loss_after) else "NaN"
    steps = "step" if first.steps_after == 1 else f"{first.steps_after} steps"
    usual = _usual_norm(history)
    advice = f"clip the gradient's norm at about {2 * usual:.2g}" if usual else "clip the gradient's norm"
    return Finding(
        "clipping-missing",
        "error",
        min(1.0, 1 - 1 / first.times),
        f"The {first.what} of step {first.step} is {first.times:.3g} times as large as the median before it; "
        f"unclipped, it brought the loss from {first.loss_before:.3g} to {after} in the {steps} after it, as "
        f"happened {len(damaging)} time{'s' if len(damaging) > 1 else ''} in {history.num_steps} steps: {advice}",
        {
            "step": first.step,
            "what": first.what,
            "times_median": first.times,
            "loss_before": first.loss_before,
            "loss_after": first.loss_after if math.isfinite(first.loss_after) else None,
            "num_damaging": len(damaging),
            "usual_gradient_norm": usual,
        },
    )


def _damaging(history: WatchRecord) -> list[_Spike]:
    """Spikes that damaged the loss, from a normal course each; none where they are not rare."""
    losses = history.losses
    norms = {int(s["step"] or 0): float(s["clipped_norm"]) for s in history.samples if s["clipped_norm"] is not None}
    steps, known = sorted(norms), [norms[step] for step in sorted(norms)]
    found: list[_Spike] = []
    at = BEFORE
    while at < len(losses):
        before = [loss for loss in losses[at - BEFORE : at] if loss is not None]
        seen = bisect.bisect_right(steps, at)
        earlier = known[max(0, seen - 5 * BEFORE) : seen]
        spike = _spike("loss", losses[at], before) or _spike("gradient", norms.get(at + 1), earlier)
        harm = None if spike is None or not before else _damage(before, losses[at + 1 : at + 1 + AFTER])
        if spike is not None and harm is not None:
            found.append(_Spike(at + 1, *spike, statistics.median(before), *harm))
            at += 2 * BEFORE  # what comes next is its consequence
        else:
            at += 1
    return found if len(found) <= max(1.0, RARE_SHARE * len(losses)) else []


def _spike(what: str, value: float | None, before: Sequence[float]) -> tuple[str, float] | None:
    if value is None or len(before) < BEFORE:
        return None
    usual = statistics.median(before)
    return (what, value / usual) if usual > 0 and value > SPIKE * usual else None


def _damage(before: Sequence[float], losses: Sequence[float | None]) -> tuple[float, int] | None:
    """The least loss after a spike, where that is above the losses before it by more than these scatter.

    Or the first one, where it is many times as large: the weights were thrown off, though they came back in few steps.
    And of how many steps it is the least.
    """
    after = [math.inf if loss is None else loss for loss in losses]
    if len(after) < AFTER:
        return None
    usual = statistics.median(before[-RECENT:])
    spread = 1.4826 * statistics.median(map(abs, _off_the_line(before)))
    now = min(after)
    if now - usual > max(DAMAGE_SDS * spread, DAMAGE_SHARE * abs(usual)):
        return now, AFTER
    return (after[0], 1) if after[0] > SPIKE * max(before) > 0 else None


def _off_the_line(losses: Sequence[float]) -> list[float]:
    """How far each lies from the straight line through all of them: a loss that falls does not scatter for that."""
    middle, mean = (len(losses) - 1) / 2, statistics.fmean(losses)
    slope = sum((at - middle) * loss for at, loss in enumerate(losses)) / sum(
        (at - middle) ** 2 for at in range(len(losses))
    )
    return [loss - mean - slope * (at - middle) for at, loss in enumerate(losses)]


def _usual_norm(history: WatchRecord) -> float | None:
    norms = [before for before, _ in _norms(history)]
    return statistics.median(norms) if norms else None


def _norms(history: WatchRecord) -> list[tuple[float, float]]:
    pairs = ((sample["gradient_norm"], sample["clipped_norm"]) for sample in history.samples)
    return [(before, after) for before, after in pairs if before and after is not None]


def _rate(history: WatchRecord) -> float | None:
    rates = [sample["learning_rate"] for sample in history.samples if sample["learning_rate"] is not None]
    return statistics.median(rates) if rates else None
