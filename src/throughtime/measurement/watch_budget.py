"""When to look: as often as asked, and as seldom as the share of time that may be spent on it demands."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Budget"]

FIRST_STEPS = 64
"""Sampled one by one where the budget allows: most of what goes wrong does so early."""

CREDIT_SECONDS = 0.05
"""For samples of the first steps, when no time has passed that a share could be taken of."""

SMALL_INTERVAL = 10
"""Who asks for a probe that often wants to see the first steps, whatever that costs."""

PAUSE_STEPS = 10
ENOUGH_STEPS = 8
"""To say how long a step takes, and what is no step but a pause."""

_PROBES, _SAMPLES = 0.4, 0.15
"""Shares of the budget; what is left is for what no clock of ours sees: hooks being called, cold caches."""


@dataclass
class Budget:
    """Counts the seconds of training and our own, and decides.

    Attributes:
        every: steps between two probes, at least.
        sample_every: steps between two samples whatever they cost; None leaves it to the budget.
        max_overhead: share of the training time; None is without limit.
        training_seconds: of the steps, without our own time; a pause counts as ten of them.
        sample_seconds: spent on samples.
        probe_seconds: spent on probes.
        other_seconds: of our own that belong to neither: how a state is handed on, where NaN began.
    """

    every: int
    sample_every: int | None
    max_overhead: float | None
    training_seconds: float = 0.0
    sample_seconds: float = 0.0
    probe_seconds: float = 0.0
    other_seconds: float = 0.0
    num_samples: int = 0
    num_probes: int = 0
    last_probe: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=33))
    _longest: float = math.inf

    def step_took(self, seconds: float) -> None:
        """Count one step, our own time taken out."""
        self.training_seconds += min(seconds, self._longest)
        self._recent.append(seconds)

    def sample_took(self, seconds: float) -> None:
        """Count one sample."""
        self.sample_seconds += seconds
        self.num_samples += 1
        if self.num_samples > ENOUGH_STEPS:
            self._longest = PAUSE_STEPS * statistics.median(self._recent)

    def probe_took(self, step: int, seconds: float) -> None:
        """Count one probe."""
        self.probe_seconds += seconds
        self.num_probes += 1
        self.last_probe = step

    @property
    def step_seconds(self) -> float | None:
        """The median of the last steps."""
        return statistics.median(self._recent) if self._recent else None

    @property
    def overhead_share(self) -> float:
        """Of the training time, spent on all that is timed."""
        own = self.sample_seconds + self.probe_seconds + self.other_seconds
        return own / self.training_seconds if self.training_seconds else 0.0

    @property
    def interval_steps(self) -> int:
        """Steps from one probe to the next, as the cost of a probe is known by now."""
        if self.max_overhead is None or not self.num_probes or not self.step_seconds:
            return self.every
        affordable = self.probe_seconds / self.num_probes / (_PROBES * self.max_overhead * self.step_seconds)
        return max(self.every, math.ceil(affordable))

    def wants_sample(self, step: int) -> bool:
        """Whether `step` (from 1) is to be sampled."""
        if self.sample_every is not None:
            return (step - 1) % self.sample_every == 0
        if self.max_overhead is None or self.num_samples == 0:
            return True
        if self.every <= SMALL_INTERVAL and step <= FIRST_STEPS:
            return True
        mean = self.sample_seconds / self.num_samples
        allowed = CREDIT_SECONDS + _SAMPLES * self.max_overhead * self.training_seconds
        return self.sample_seconds + mean <= allowed

    def wants_probe(self, step: int, guess_seconds: float) -> bool:
        """Whether to probe after `step`, when a probe is guessed to take so long as long as none was made."""
        if step - self.last_probe < self.every:
            return False
        if self.max_overhead is None:
            return True
        mean = self.probe_seconds / self.num_probes if self.num_probes else guess_seconds
        return self.probe_seconds + mean <= _PROBES * self.max_overhead * self.training_seconds
