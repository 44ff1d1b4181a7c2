"""learning-rate-too-high and -too-low, judged by what other rates do from the same start on the same batch."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from throughtime.diagnosis import clipping, non_finite
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.ended_rate import find_ended, has_ended
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.far_update import LONG_UPDATE
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.optimizers import learning_rate, planned_rate, scale_free
from throughtime.diagnosis.rates import SHORT_STEPS, settled

__all__ = ["find_too_high", "find_too_low"]

FEWEST_STEPS = 10
"""Of a rehearsal; slower models are not judged."""

CLIMB = 0.5
"""The loss climbs above its start by this share of what a smaller rate gains. At rates that train it climbs by none, at
three times these by less than 0.1, at thirty times these by 1 to 10,000."""

FAR = 0.2
"""And by this share of the loss at the start, or of a constant output where that is larger."""

OUTDONE = 2.0
"""A rate that gains this many times as much in the end as the smaller one pays for its climb."""

OVERWRITTEN = 1.0
"""Update / weights of the first step: from here on nothing of the start is left, unless clipping is hard."""

ORDINARY_UPDATE = 0.1
"""Update / weights, at most, at any step of a loop whose climb was a passing one."""

LEFT_TO_GAIN = 0.1
"""Of what a loop has gained, what 20 steps at a smaller rate gain from where it has come to on one batch."""

CLIPS = (0.25, 1.0)
"""Usual largest norms. A loop that was not watched may clip; what these heal is no error."""

SMALLER, LARGER = (0.1, 0.01), (100.0, 1000.0)

MUCH_LARGER = 10_000.0
"""Tried where the first update is below `HARDLY` of the weights: then a thousand times the rate is still too low to
show much in 20 steps."""

HARDLY = 1e-5

BOTTOMLESS = 20.0
"""Of the highest loss at the present rate: one that falls so far below zero has no floor, such as that of a policy's
gradient, where the same actions are made ever likelier. How far it falls then says nothing."""

SLOW = 0.03
"""Of what a higher rate gains in 20 steps, gained in 50. Rates that train gain 0.3 to 1 of it, a tenth of them 0.08."""

WORTH = 0.005
"""Of the loss: a higher rate has to gain as much for it to be worth having."""

LEARNED = 0.1
"""Of the chance loss: a model that is so much better has learned, and may take its time over the rest."""

FALLEN = 0.05
"""Of the first losses of a history: a loss that fell by so much was brought down by the present rate."""

HOVERS = 0.3
"""Of what the loss was above chance in the beginning, it still is, and a third of this at its lower quartile."""

FALLEN_RATE = 100.0
"""The rate at the beginning of a history / at its end: a schedule of epochs that is stepped at each batch, say."""

RISING = 1.5
"""The rate at the end of a history / at its beginning: a warm-up, whose rates are meant to be low."""


@dataclass(frozen=True)
class _Course:
    losses: tuple[float, ...]

    @property
    def peak(self) -> float:
        return max(self.losses) if all(map(math.isfinite, self.losses)) else math.inf

    def mean(self, steps: int) -> float:
        chosen = self.losses[:steps]
        return statistics.fmean(chosen) if all(map(math.isfinite, chosen)) and chosen else math.inf


def find_too_high(evidence: Evidence) -> Finding | None:
    """The loss climbs where it falls at a tenth or a hundredth of the rate."""
    if not evidence.case.optimizers:
        raise Missing("an optimizer: other learning rates are tried on a copy")
    if has_ended(evidence):
        return find_ended(evidence)
    if evidence.case.history is not None and clipping.spiked(evidence.case.history):
        return None  # what is left of a model that a spike threw off its course says nothing of the rate
    clip = clipping.clip_seen(evidence.case.history)
    present = _Course(evidence.rehearsal.losses)
    if clip is not None and present.peak > present.losses[0]:
        present = _Course(evidence.rates.losses(1.0, clip=clip, steps=len(present.losses)))
    start = present.losses[0]
    if not math.isfinite(start):
        return None
    if len(present.losses) < FEWEST_STEPS and math.isfinite(present.peak):
        raise Missing(f"a model that makes {FEWEST_STEPS} steps within some seconds")
    watched = _climbed(evidence)
    if present.peak <= start and watched is None:
        return None
    smaller = {factor: _Course(evidence.rates.losses(factor, clip=clip)) for factor in SMALLER}
    best = min(smaller, key=lambda factor: smaller[factor].mean(SHORT_STEPS))
    low = settled(smaller[best].losses)
    gap = start - low
    found = None if watched is None else _watched_finding(evidence, watched, low, smaller[best], best)
    if found is not None:
        return found
    if (watched is None or _made_good(evidence, watched, low)) and _fell(evidence):
        return None  # whatever a rehearsal on one batch does: the loop itself, which may clip, came down
    scale = _scale(evidence, start)
    if gap <= 2 * WORTH * scale or present.peak - start < FAR * scale:
        return None
    if smaller[best].mean(SHORT_STEPS) >= present.mean(SHORT_STEPS):
        return None
    climb = (present.peak - start) / gap
    if climb < CLIMB or settled(present.losses) < start - OUTDONE * gap:
        return None
    if _recovers(evidence, present, best, clip):
        return None
    healed = _healed(evidence, start, gap)
    return _finding(evidence, present, smaller[best], best, climb, healed)


def _recovers(evidence: Evidence, present: _Course, factor: float, clip: float | None) -> bool:
    """Whether the climb is a matter of the first steps, after which the present rate does as well as the smaller one.

    RMSprop's first steps are ten times as long as the later ones.
    """
    after, samples = settled(present.losses), evidence.rehearsal.history.samples
    ratio = samples[0]["update_ratio"] if samples else None
    if not after < present.losses[0] or ratio is None or ratio >= LONG_UPDATE:
        return False
    return after <= settled(evidence.rates.losses(factor, clip=clip, steps=len(present.losses)))


def _scale(evidence: Evidence, start: float) -> float:
    """Of losses: near zero, where a model has learned, a climb by many times the loss is a small matter."""
    return max(abs(start), abs(evidence.chance_loss) if evidence.has("chance_loss") else 0.0)


def _healed(evidence: Evidence, start: float, gap: float) -> float | None:
    """The clipping that may be what keeps the loop from it, where that is not known."""
    if evidence.case.history is not None or scale_free(evidence.case.optimizers):
        return None
    ratio = evidence.rehearsal.history.samples[0]["update_ratio"] if evidence.rehearsal.history.samples else None
    overwritten = ratio is None or ratio >= OVERWRITTEN
    for clip in CLIPS[1:] if overwritten else CLIPS:
        course = _Course(evidence.rates.losses(1.0, clip=clip, steps=30))
        if course.peak < start + CLIMB * gap:
            return clip
    return None


def _finding(
    evidence: Evidence, present: _Course, small: _Course, factor: float, climb: float, healed: float | None
) -> Finding:
    rate = learning_rate(evidence.case.optimizers)
    start, peak = present.losses[0], present.peak
    samples = evidence.rehearsal.history.samples
    ratio = samples[0]["update_ratio"] if samples else None
    formula = non_finite.by_formula(evidence.rehearsal.history)
    severity = "warning" if healed is not None or formula else "error"
    climbs = f"climbs from {start:.4g} to {peak:.4g}" if math.isfinite(peak) else f"goes from {start:.4g} to NaN"
    told = f", and its first update is {ratio:.2g} of the weights" if ratio is not None else ""
    note = f"; clipped to a norm of {healed} it does not" if healed is not None else ""
    return Finding(
        "learning-rate-too-high",
        severity,
        min(1.0, 0.5 + 0.25 * climb) if math.isfinite(climb) else 1.0,
        f"At the learning rate {rate:.2g} the loss {climbs} within {len(present.losses)} steps on one batch{told}; at "
        f"{rate * factor:.2g} it comes to {settled(small.losses):.4g} in {len(small.losses)} steps{note}",
        {
            "learning_rate": rate,
            "loss_first": start,
            "loss_highest": peak if math.isfinite(peak) else None,
            "loss_last": settled(present.losses) if math.isfinite(peak) else None,
            "climb": climb if math.isfinite(climb) else None,
            "update_ratio": ratio,
            "better_rate": rate * factor,
            "loss_at_better_rate": settled(small.losses),
            "healed_by_clip": healed,
        },
    )


@dataclass(frozen=True)
class _Climb:
    first: float
    peak: float
    last: float
    noise: float


def _climbed(evidence: Evidence) -> _Climb | None:
    """Whether the losses of a watched loop climbed above their start, single odd batches apart."""
    history = evidence.case.history
    if history is None or history.losses_every != 1:
        return None
    losses = [loss for loss in history.losses if loss is not None]
    if len(losses) < FEWEST_STEPS:
        return None
    smooth = [statistics.median(losses[at : at + 3]) for at in range(len(losses) - 2)]
    changes = [abs(b - a) for a, b in zip(losses[len(losses) // 2 :], losses[len(losses) // 2 + 1 :], strict=False)]
    noise = 1.4826 * statistics.median(changes) if changes else 0.0
    # A single step counts where the update before it overwrote the weights: then it was not an odd batch.
    long = [s["step"] for s in history.samples if s["update_ratio"] is not None and s["update_ratio"] >= LONG_UPDATE]
    after = [history.losses[int(step)] for step in long if step is not None and int(step) < len(history.losses)]
    jumps = [loss for loss in after if loss is not None and loss > clipping.SPIKE * abs(losses[0])]
    climb = _Climb(losses[0], max(*smooth, *jumps), settled(losses), noise)
    climbed = climb.peak > climb.first + 3 * noise or _overthrown(evidence, losses) or _hovers(evidence, losses)
    return climb if climbed else None


def _hovers(evidence: Evidence, losses: list[float]) -> bool:
    """Whether the first update overwrote the weights, and the loss stays far above chance since then."""
    history = evidence.case.history
    ratio = history.samples[0]["update_ratio"] if history is not None and history.samples else None
    if ratio is None or ratio < LONG_UPDATE or not evidence.has("chance_loss"):
        return False
    chance = evidence.chance_loss
    first, low, middle, _ = (losses[0], *statistics.quantiles(losses[len(losses) // 2 :], n=4))
    begun = max(first - chance, WORTH * abs(chance))
    return middle - chance > HOVERS * begun and low - chance > HOVERS / 3 * begun


def _overthrown(evidence: Evidence, losses: list[float]) -> bool:
    """Whether the first update overwrote the weights, and the loss stays above chance and above its start."""
    history = evidence.case.history
    ratio = history.samples[0]["update_ratio"] if history is not None and history.samples else None
    if ratio is None or ratio < LONG_UPDATE or not evidence.has("chance_loss"):
        return False
    half = losses[len(losses) // 2 :]
    chance, error = evidence.chance_loss, statistics.stdev(half) / math.sqrt(len(half))
    middle = statistics.median(half)
    return middle > losses[0] and middle - chance > max(0.05 * abs(chance), 4 * error)


def _made_good(evidence: Evidence, climb: _Climb, low: float) -> bool:
    """Whether a climb was a passing one: less than was gained since, and little is left that a smaller rate would gain.

    Momentum overshoots on the way down. What a rate that is too high settles at may lie below the start too, where that
    lay far above chance; but its climb is many times as high, or its updates are long.
    """
    history = evidence.case.history
    assert history is not None
    ratios = [sample["update_ratio"] for sample in history.samples if sample["update_ratio"] is not None]
    gained = climb.first - climb.last
    ordinary = bool(ratios) and max(ratios) < ORDINARY_UPDATE
    return ordinary and gained > climb.peak - climb.first and climb.last - low <= LEFT_TO_GAIN * gained


def _watched_finding(evidence: Evidence, climb: _Climb, low: float, small: _Course, factor: float) -> Finding | None:
    gap = climb.first - min(low, climb.last)
    scale = _scale(evidence, climb.first)
    history = evidence.case.history
    assert history is not None
    losses = [loss for loss in history.losses if loss is not None]
    chance = evidence.chance_loss if evidence.has("chance_loss") else math.nan
    # From a model of which nothing is left a smaller rate need not find its way back.
    overwritten = (history.samples[0]["update_ratio"] or 0.0) >= OVERWRITTEN if history.samples else False
    close = settled(small.losses) - chance < 0.1 * (statistics.median(losses) - chance)
    if _hovers(evidence, losses) and (overwritten or close):
        return _of_watched(evidence, climb, small, factor, gap, scale)
    overthrown = _overthrown(evidence, losses)
    if not overthrown and _made_good(evidence, climb, low):
        return None
    if climb.peak - climb.first < max(CLIMB * gap, FAR * scale) or (gap <= 2 * WORTH * scale and not overthrown):
        return None
    if settled(small.losses) >= climb.last and climb.last >= climb.first and not overthrown:
        return None
    return _of_watched(evidence, climb, small, factor, gap, scale)


def _of_watched(evidence: Evidence, climb: _Climb, small: _Course, factor: float, gap: float, scale: float) -> Finding:
    history = evidence.case.history
    assert history is not None
    rate = learning_rate(evidence.case.optimizers)
    ratios = [sample["update_ratio"] for sample in history.samples if sample["update_ratio"] is not None]
    ratio = ratios[0] if ratios else None
    told = f", the first update is {ratio:.2g} of the weights" if ratio is not None else ""
    return Finding(
        "learning-rate-too-high",
        "error",
        min(1.0, 0.5 + 0.25 * (climb.peak - climb.first) / max(gap, WORTH * scale)),
        f"At the learning rate {rate:.2g} the loss climbed from {climb.first:.4g} to {climb.peak:.4g} and is "
        f"{climb.last:.4g} after {history.num_steps} steps{told}; {len(small.losses)} steps at {rate * factor:.2g} "
        f"from here bring one batch to {settled(small.losses):.4g}",
        {
            "learning_rate": rate,
            "loss_first": climb.first,
            "loss_highest": climb.peak,
            "loss_last": climb.last,
            "watched_steps": history.num_steps,
            "climb": (climb.peak - climb.first) / max(gap, WORTH * scale),
            "update_ratio": ratio,
            "better_rate": rate * factor,
            "loss_at_better_rate": settled(small.losses),
        },
    )


def find_too_low(evidence: Evidence) -> Finding | None:
    """Next to nothing is gained where 100 or 1000 times the rate gains much, and more than was gained on the way."""
    if not evidence.case.optimizers:
        raise Missing("an optimizer: other learning rates are tried on a copy")
    fallen = _fallen(evidence)
    if fallen is None and planned_rate(evidence.case.optimizers) > RISING:
        raise Missing("the steps at which the schedule reaches its highest learning rate")
    if _moves(evidence):
        return None
    losses = evidence.rehearsal.losses
    start, here = losses[0], settled(losses)
    if not math.isfinite(here) or len(losses) < FEWEST_STEPS:
        return None
    lowest = min(map(statistics.median, zip(losses, losses[1:], losses[2:], strict=False)))  # it may have come up again
    if _learned(evidence, start):
        return None
    gained = start - here
    if min(losses) >= 0 and gained >= SLOW * start:
        return None  # no rate can bring the loss below zero
    ratio = evidence.rehearsal.history.samples[0]["update_ratio"]
    further = (MUCH_LARGER,) if ratio is not None and ratio < HARDLY else ()
    for best in (*LARGER, *further, *(() if fallen is None else (fallen,))):
        there = settled(evidence.rates.losses(best))
        if there < -BOTTOMLESS * max(map(abs, losses)):
            continue
        possible = start - there
        if possible > WORTH * abs(start) and gained < SLOW * possible and there < lowest:
            break
    else:
        return None
    rate = learning_rate(evidence.case.optimizers)
    told = f" (an update is {ratio:.1g} of the weights)" if ratio is not None else ""
    return Finding(
        "learning-rate-too-low",
        "error",
        min(1.0, 1 - gained / (SLOW * possible) / 2),
        f"At the learning rate {rate:.2g}{told} {len(losses)} steps on one batch take the loss from {start:.4g} to "
        f"{here:.4g}; {SHORT_STEPS} steps at {rate * best:.2g} take it to {there:.4g}",
        {
            "learning_rate": rate,
            "loss_first": start,
            "loss_last": here,
            "update_ratio": ratio,
            "better_rate": rate * best,
            "loss_at_better_rate": there,
            "share_gained": gained / possible,
        },
    )


def _fallen(evidence: Evidence) -> float | None:
    """How many times as high the rate was at the beginning of a watched loop, where it has been all but taken away."""
    history = evidence.case.history
    rates = [] if history is None else [s["learning_rate"] for s in history.samples if s["learning_rate"]]
    return rates[0] / rates[-1] if len(rates) > 1 and rates[0] > FALLEN_RATE * rates[-1] else None


def _moves(evidence: Evidence) -> bool:
    """Whether a watched loop brought its loss down, or is still warming up."""
    history = evidence.case.history
    if history is None:
        return False
    rates = [sample["learning_rate"] for sample in history.samples if sample["learning_rate"] is not None]
    if len(rates) > 1 and rates[-1] > RISING * rates[0]:
        return True
    if clipping.clip_seen(history) is not None and clipping.most_is_clipped(history):
        return True  # the loop's own steps are shorter than the rate says: that is over-clipping
    return _fell(evidence)


def _fell(evidence: Evidence) -> bool:
    """Whether the losses of a watched loop came down."""
    history = evidence.case.history
    losses = [] if history is None else [loss for loss in history.losses if loss is not None]
    if len(losses) < FEWEST_STEPS:
        return False
    part = max(3, len(losses) // 10)
    first, last = statistics.fmean(losses[:part]), statistics.fmean(losses[-part:])
    return first - last > FALLEN * abs(first)


def _learned(evidence: Evidence, start: float) -> bool:
    """Whether the model is better than chance already."""
    if not evidence.has("chance_loss"):
        return False
    chance = evidence.chance_loss
    return start < chance - LEARNED * abs(chance)
