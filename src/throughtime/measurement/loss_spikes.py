"""Spikes of a loss, and what went before each of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Spike", "loss_spikes"]

_BEFORE = 20
"""Steps by whose losses a step is judged."""
_DEVIATIONS = 8.0
"""How many median deviations above their median the loss has to lie ..."""
_NATS = 0.3
"""... and how many nats at least."""
_LARGE = 4.0
"""Times the median of the steps before: a gradient that stands out."""
_LOOK_BACK = 3
"""Updates before a spike that may have caused it."""
_MOST = 20


@dataclass(frozen=True)
class Spike:
    """A loss that stands out from those before it.

    Attributes:
        step: at which it was.
        loss_nats: how high.
        cause: what the metrics of this and the steps before it show, as words.
    """

    step: int
    loss_nats: float
    cause: str


def loss_spikes(steps: Sequence[Mapping[str, Any]]) -> list[Spike]:
    """The spikes of a training, the highest 20 of them, in order.

    Args:
        steps: with "step", "loss_nats", "gradient_norm", "clipped_gradient_norm" and "learning_rate"; those whose loss
            is NaN or infinite are passed over.
    """
    steps = [line for line in steps if math.isfinite(line["loss_nats"])]
    losses = [line["loss_nats"] for line in steps]
    found: list[tuple[float, int]] = []
    last = -_BEFORE
    for place in range(_BEFORE, len(steps)):
        before = losses[place - _BEFORE : place]
        middle = statistics.median(before)
        deviation = statistics.median(abs(value - middle) for value in before)
        height = losses[place] - middle
        if height > max(_NATS, _DEVIATIONS * deviation) and place - last > _LOOK_BACK:
            found.append((height, place))
            last = place
    highest = sorted(sorted(found, reverse=True)[:_MOST], key=lambda entry: entry[1])
    return [Spike(steps[place]["step"], losses[place], _cause(steps, place)) for _, place in highest]


def _cause(steps: Sequence[Mapping[str, Any]], place: int) -> str:
    """In the order in which one would look."""
    norms = [line["gradient_norm"] for line in steps[max(0, place - _LOOK_BACK - _BEFORE) : place - _LOOK_BACK]]
    usual = statistics.median(norms) if norms else 0.0
    recent = max(steps[place - _LOOK_BACK : place], key=lambda line: float(line["gradient_norm"]))
    norm, after = recent["gradient_norm"], recent["clipped_gradient_norm"]
    if usual > 0 and norm > _LARGE * usual:
        clipped = f"clipped to {after:.2g}" if after < 0.999 * norm else "not clipped"
        return f"the gradient of update {recent['step']:,} was {norm / usual:.0f} times as large as usual, {clipped}"
    now = float(steps[place]["gradient_norm"])
    if usual > 0 and now > _LARGE * usual:
        return f"an odd batch: its own gradient is {now / usual:.0f} times as large as usual"
    return "nothing in the metrics before it stands out"
