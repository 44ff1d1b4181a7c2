"""over-clipping and clipping-missing: what the loop does, or does not do, to large gradients."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.optimizers import largest_eps, scale_free
from throughtime.diagnosis.rates import settled
from throughtime.measurement import WatchRecord

__all__ = ["clip_seen", "find_missing", "find_over", "most_is_clipped", "spiked"]

FEWEST_SAMPLES = 10
"""Of a history, to speak of most steps, or of rare ones."""

CLIPPED = 0.999
"""Norm seen by the optimizer / norm before: clipping to a norm gives at most this, rounding gives more."""

MOST_STEPS_SHARE = 0.9
HARD = 0.05
"""At most this is left of the gradient at the median step. Loops that clip by habit leave 0.1 or more of most steps:
language models are trained at a rate of 20 with a clip of 0.25 where norms are about 1."""

LITTLE_PROGRESS = 0.1
"""Of what the same steps without clipping gain on one batch."""

SPIKE = 10.0
"""Times the median norm. The norms of a healthy loop are within a factor of about 3 of their median."""

RARE_SHARE = 0.15
"""More spikes than this are no rare ones, but how this model always is."""

BEFORE, AFTER = 10, 3
"""Steps compared before and after a spike; the spike's own batch is left out, as it may be an odd one."""

DAMAGE_SDS = 4.0
"""By how many standard deviations of the losses before it the loss is higher after it."""

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
    if history.losses_every != 1 or sum(loss is not None for loss in history.losses) < FEWEST_SAMPLES:
        return False
    damaging, _, share = _spikes(history)
    return bool(damaging) and share <= RARE_SHARE


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
    told = f"; the effective learning rate is {rate * left:.2g}, not {rate:.2g}" if rate is not None else ""
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
            "effective_learning_rate": None if rate is None else rate * left,
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
        return "warning", ""
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
    step: int
    norm: float
    times: float
    loss_before: float
    loss_after: float


def find_missing(evidence: Evidence) -> Finding | None:
    """Spikes that the loop let through, and what the loss was before and after."""
    history = evidence.case.history
    if history is None:
        raise Missing("a watch of the training loop: spikes are rare, and come with the batches of the loop")
    if len(_norms(history)) < FEWEST_SAMPLES or sum(loss is not None for loss in history.losses) < FEWEST_SAMPLES:
        raise Missing(f"a watch of at least {FEWEST_SAMPLES} sampled steps, with their losses (watch.loss)")
    if history.losses_every != 1:
        raise Missing("the loss of every step: of so long a watch only means are left")
    damaging, spikes, share = _spikes(history)
    if not damaging or share > RARE_SHARE:
        return None
    worst = max(damaging, key=lambda spike: spike.times)
    after = f"{worst.loss_after:.3g}" if math.isfinite(worst.loss_after) else "NaN"
    return Finding(
        "clipping-missing",
        "error",
        min(1.0, 1 - 1 / worst.times),
        f"{spikes} of {len(history.samples)} sampled gradients are more than {SPIKE:.0f} times as large as the median, "
        f"unclipped; that of step {worst.step} is {worst.times:.3g} times as large, and after it the loss is {after} "
        f"where it was {worst.loss_before:.3g}: clip the gradient's norm at about "
        f"{2 * worst.norm / worst.times:.2g}",
        {
            "step": worst.step,
            "norm": worst.norm,
            "times_median": worst.times,
            "loss_before": worst.loss_before,
            "loss_after": worst.loss_after if math.isfinite(worst.loss_after) else None,
            "num_spikes": spikes,
            "num_damaging": len(damaging),
            "spike_share": share,
        },
    )


def _spikes(history: WatchRecord) -> tuple[list[_Spike], int, float]:
    """Those that damaged the loss, the number of all, and their share."""
    norms: list[float] = []
    damaging: list[_Spike] = []
    spikes = 0
    for sample in history.samples:
        before, after = sample["gradient_norm"], sample["clipped_norm"]
        if before is None or after is None:
            continue
        if len(norms) >= BEFORE:
            usual = statistics.median(norms[-5 * BEFORE :])
            if usual > 0 and after > SPIKE * usual:
                spikes += 1
                found = _damage(history.losses, int(sample["step"] or 0), after, after / usual)
                if found is not None and len(damaging) < len(norms):
                    damaging.append(found)
                continue
        norms.append(before)
    counted = len(norms) + spikes
    if damaging:
        # What comes after the first damage is its consequence: large gradients of a model thrown off its course.
        first = damaging[0].step
        early = sum(int(sample["step"] or 0) <= first for sample in history.samples)
        return damaging, spikes, sum(spike.step <= first for spike in damaging) / max(1, early)
    return damaging, spikes, spikes / max(1, counted)


def _damage(losses: Sequence[float | None], step: int, norm: float, times: float) -> _Spike | None:
    before = [loss for loss in losses[max(0, step - 1 - BEFORE) : step - 1] if loss is not None]
    after = [math.inf if loss is None else loss for loss in losses[step : step + AFTER]]
    if len(before) < 3 or not after:
        return None
    usual = statistics.median(before)
    spread = 1.4826 * statistics.median(abs(loss - usual) for loss in before)
    now = min(after)
    if now - usual > max(DAMAGE_SDS * spread, DAMAGE_SHARE * abs(usual)):
        return _Spike(step, norm, times, usual, now)
    return None


def _norms(history: WatchRecord) -> list[tuple[float, float]]:
    pairs = ((sample["gradient_norm"], sample["clipped_norm"]) for sample in history.samples)
    return [(before, after) for before, after in pairs if before and after is not None]


def _rate(history: WatchRecord) -> float | None:
    rates = [sample["learning_rate"] for sample in history.samples if sample["learning_rate"] is not None]
    return statistics.median(rates) if rates else None
