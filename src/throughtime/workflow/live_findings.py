"""What can be seen to be wrong while a network trains, from the numbers that training tells its observers anyway.

A diagnosis measures; this only looks, at every update, in microseconds. It says a thing once, and names the finding
that `throughtime diagnose` would look into.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator
from typing import Any

from throughtime.diagnosis.clipping import CLIPPED, HARD, MOST_STEPS_SHARE
from throughtime.measurement.loss_spikes import loss_spikes
from throughtime.training import Evaluated, Event, GradientSeen, Started, Stepped

__all__ = ["LiveFindings"]

SPIKE_STEPS = 24
"""Steps by which a spike of the loss is told, the last of them the one in question."""
RISING = 3
"""Evaluations in a row that got worse, after which it is said."""
RECENT = 100
"""Updates over which norms and losses are taken together."""
GROWN = 10.0
"""Times what the gradient's norm was; in a healthy training it stays within a factor of about 3."""
LOST_NATS = 0.5
"""By which the loss, averaged over recent updates, has come up again from its lowest."""
FEW = 10
"""Updates after which a loss may already be far above where it began ..."""
CLIMBED_NATS = 1.0
"""... which is by so much, at their median."""
STANDING = 200
"""Updates at half the largest learning rate or more, after which a network has learned something ..."""
GAINED_SHARE = 0.01
"""... which is this share at least of the loss that the frequencies of words give, or of the first one."""
SHORT_REACH = 2
"""Steps of a gradient that tells next to nothing of the past ..."""
LOOKS = 3
"""... where it was so at several looks in a row."""
LARGE = 2.0
"""log10 of how much larger than at lag 0 the gradient may be at any other lag."""


class LiveFindings:
    """Called with every event; returns what has come to light with it, as sentences without a full stop."""

    def __init__(self) -> None:
        self._begin(0, math.inf)

    def __call__(self, event: Event) -> list[str]:
        """What is to be said after an event, a line each."""
        match event:
            case Started():
                self._begin(event.first_step, event.model.output.frequency_nats)
                return []
            case Stepped():
                found = self._of_step(event)
            case Evaluated():
                found = self._of_evaluation(event)
            case GradientSeen():
                found = self._of_gradient(event)
            case _:
                return []
        return [f"step {event.step}: {sentence}" for sentence in found]

    def _begin(self, first_step: int, frequency_nats: float) -> None:
        self._steps: deque[dict[str, Any]] = deque(maxlen=2 * RECENT)
        self._said: set[str] = set()
        self._resumed, self._frequency_nats = first_step > 0, frequency_nats
        self._first: list[float] = []
        self._lowest, self._lowest_step = math.inf, 0
        self._largest_rate, self._at_rate = 0.0, 0
        self._last_valid, self._rising, self._short = math.inf, 0, 0

    def _of_step(self, event: Stepped) -> Iterator[str]:
        self._steps.append(
            {
                "step": event.step,
                "loss_nats": event.loss_nats,
                "gradient_norm": event.gradient_norm,
                "clipped_gradient_norm": event.clipped_gradient_norm,
            }
        )
        self._largest_rate = max(self._largest_rate, event.learning_rate)
        self._at_rate += event.learning_rate >= self._largest_rate / 2
        if len(self._first) < 5:
            self._first.append(event.loss_nats)
        for spike in loss_spikes(tuple(self._steps)[-SPIKE_STEPS:]):
            if spike.step == event.step:
                yield f"the loss jumps to {spike.loss_nats:.2f} nats; {spike.cause}"
        yield from self._once("learning-rate-too-high", self._climbed())
        if event.step % (RECENT // 4) == 0 and len(self._steps) >= RECENT:  # what changes slowly is asked now and then
            recent = tuple(self._steps)[-RECENT:]
            yield from self._once("over-clipping", _over_clipped(recent))
            yield from self._once("exploding-gradient", self._grown(recent))
            yield from self._once("learning-rate-too-high", self._lost(recent))
            yield from self._once("plateau", self._standing(recent))

    def _once(self, code: str, sentence: str | None) -> Iterator[str]:
        if sentence is not None and code not in self._said:
            self._said.add(code)
            yield f"{code}: {sentence}"

    def _grown(self, recent: tuple[dict[str, Any], ...]) -> str | None:
        before = [line["gradient_norm"] for line in tuple(self._steps)[:RECENT]]
        if len(self._steps) < 2 * RECENT or statistics.median(before) <= 0:
            return None
        now, usual = (statistics.median(norms) for norms in ([line["gradient_norm"] for line in recent], before))
        if now <= GROWN * usual:
            return None
        return (
            f"the norm of the gradient is {now:.3g} at the median of {RECENT} updates, "
            f"{now / usual:.0f} times that of the {RECENT} before"
        )

    def _lost(self, recent: tuple[dict[str, Any], ...]) -> str | None:
        now = statistics.median(line["loss_nats"] for line in recent)
        if now < self._lowest:
            self._lowest, self._lowest_step = now, recent[-1]["step"]
        if now <= self._lowest + LOST_NATS:
            return None
        return (
            f"the training loss is up to {now:.2f} nats again at the median of {RECENT} updates, "
            f"from {self._lowest:.2f} at update {self._lowest_step}"
        )

    def _climbed(self) -> str | None:
        if self._resumed or len(self._steps) < FEW or "learning-rate-too-high" in self._said:
            return None
        first = statistics.median(self._first)
        now = statistics.median(line["loss_nats"] for line in tuple(self._steps)[-FEW:])
        if now <= first + CLIMBED_NATS:
            return None
        return f"the training loss has climbed from {first:.2f} to {now:.2f} nats, at the median of {FEW} updates"

    def _standing(self, recent: tuple[dict[str, Any], ...]) -> str | None:
        now, first = statistics.median(line["loss_nats"] for line in recent), statistics.median(self._first)
        if self._resumed or self._at_rate < STANDING or now < (1 - GAINED_SHARE) * min(first, self._frequency_nats):
            return None
        if first < self._frequency_nats:
            return f"the loss is {now:.2f} nats and was {first:.2f} in the beginning: nothing has been learned yet"
        return (
            f"the loss is {now:.2f} nats, and the frequencies of the words alone give {self._frequency_nats:.2f}: of "
            "what surrounds a word nothing has been learned yet"
        )

    def _of_evaluation(self, event: Evaluated) -> Iterator[str]:
        loss = event.evaluation.loss_nats
        self._rising = self._rising + 1 if loss > self._last_valid else 0
        self._last_valid = loss
        if self._rising == RISING and self._steps:
            smooth = statistics.fmean(line["loss_nats"] for line in tuple(self._steps)[-RECENT:])
            yield (
                f"the validation loss has risen {RISING} times in a row, while the training loss is {smooth:.2f} nats: "
                "overfitting, or a learning rate that is too high"
            )

    def _of_gradient(self, event: GradientSeen) -> Iterator[str]:
        told = [(value, lag) for lag, value in enumerate(event.log10_gradient) if value is not None]
        largest, lag = max(told, default=(0.0, 0))
        if largest > LARGE:
            sentence = f"at lag {lag} the gradient is 10^{largest:.1f} times what it is at lag 0"
            yield from self._once("exploding-gradient", sentence)
        reached = event.reach is not None and event.reach <= SHORT_REACH and not event.reach_censored
        short = reached and event.step >= RECENT  # what it is before training is not yet a finding
        self._short = self._short + 1 if short else 0
        if self._short >= LOOKS:
            yield from self._once(
                "vanishing-gradient", f"at {self._short} looks in a row the gradient has reached {event.reach} steps"
            )


def _over_clipped(recent: tuple[dict[str, Any], ...]) -> str | None:
    """As `throughtime.diagnosis.clipping` has it."""
    left = [line["clipped_gradient_norm"] / line["gradient_norm"] for line in recent if line["gradient_norm"] > 0]
    if not left:
        return None
    share, middle = sum(ratio < CLIPPED for ratio in left) / len(left), statistics.median(left)
    if share < MOST_STEPS_SHARE or middle > HARD:
        return None
    return (
        f"{share:.0%} of the last {RECENT} updates were clipped, which left {middle:.2g} of the gradient; AdamW, which "
        "divides by its size, makes up for most of that"
    )
