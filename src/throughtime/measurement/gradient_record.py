"""The record of a gradient through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from throughtime.storage import Record

__all__ = ["GradientRecord", "LagProfile", "REACH_SHARE"]

REACH_SHARE = 0.01
"""The gradient reaches as far as it is at least this share of its lag-0 value."""

Curve = tuple[float | None, ...]


@dataclass(frozen=True)
class LagProfile:
    """How the gradient by one layer's state, or by an input, depends on the lag.

    Attributes:
        module: name of the module, with its layer and direction.
        kind: "state" or "input".
        backward: whether it reads from the end to the beginning, so that lag k lies k steps later.
        num_sequences: over which is averaged.
        log10_gradient: (K,) by lag: the mean over sequences of log10 of the norm of the gradient by all parts together,
            relative to lag 0. None is minus infinity: a gradient of exactly zero, or, by inputs, below 1e-308.
        spread: for each lag the quartiles (25, 50, 75 %) over sequences.
        log10_parts: (K,) for each part, its norm alone relative to lag 0 of all parts together.
        log10_state_gradient: (T,) for each part, over steps in time: of the whole loss, the mean over sequences of
            log10 of the norm; None is zero, as far as float64 can tell, and a curve that overflows is empty.
        decay_per_step: the factor per step of a straight line through `log10_gradient`; None with fewer than 3 lags.
        decay_error: its standard error.
        reach: the largest lag whose gradient is at least 1 % of that at lag 0.
        reach_censored: whether that is the longest lag there is, so that the true reach may be longer.
        notes: what a reader should know.
        cannot_tell: why there are no lags; None where there are.
        own_steps: whether a step of it is not one of the inputs' (behind a stride, in a decoder): lags are in its own.
    """

    module: str
    kind: str
    backward: bool = False
    num_sequences: int = 0
    log10_gradient: Curve = ()
    spread: tuple[Curve, ...] = ()
    log10_parts: dict[str, Curve] | None = None
    log10_state_gradient: dict[str, Curve] | None = None
    decay_per_step: float | None = None
    decay_error: float | None = None
    reach: int | None = None
    reach_censored: bool = False
    notes: tuple[str, ...] = ()
    cannot_tell: str | None = None
    own_steps: bool = False

    def __str__(self) -> str:
        if self.cannot_tell is not None:
            return f"{self.module}: cannot tell, since {self.cannot_tell}"
        longest = len(self.log10_gradient) - 1
        reach = f"at least {self.reach}" if self.reach_censored else f"{self.reach}"
        steps = "steps of its own, which are not those of the inputs" if self.own_steps else "steps"
        factor = ""
        if self.decay_per_step is not None:
            factor = f", a factor of {self.decay_per_step:.3f} ± {self.decay_error:.3f} a step"
        at_end = self.log10_gradient[-1]
        end = "0" if at_end is None else f"10^{at_end:.1f}"
        return (
            f"{self.module}: the gradient by the {self.kind} reaches {reach} of {longest} {steps}{factor}; "
            f"after {longest} steps {end} of it is left" + "".join(f" ({note})" for note in self.notes)
        )


@dataclass(frozen=True)
class GradientRecord(Record):
    """The gradient of the loss at one position of each sequence by what the model held or read k steps before.

    Attributes:
        precision: "float64" or "float32", in which it was measured.
        seed: of the sequences and positions that were drawn.
        positions: of the loss, one for each sequence; empty where the loss has one of its own.
        notes: what a reader should know of all of it.
        top: name of the profile that speaks for the model: of the forward layers that with the largest reach.
        values: for each layer and direction, by its name, the fields of its `LagProfile`.
    """

    record_kind: ClassVar[str] = "gradient"
    schema_version: ClassVar[int] = 1

    precision: str
    seed: int
    positions: tuple[int, ...]
    notes: tuple[str, ...]
    top: str
    values: dict[str, dict[str, Any]]

    @property
    def modules(self) -> dict[str, LagProfile]:
        """Each layer and direction by its name."""
        return {name: LagProfile(**_tuples(values)) for name, values in self.values.items()}

    @property
    def profile(self) -> LagProfile:
        """The one that speaks for the model."""
        return self.modules[self.top]

    @property
    def kind(self) -> str:
        """Of `profile`: "state" where a recurrence was found, else "input"."""
        return self.profile.kind

    @property
    def lags(self) -> tuple[int, ...]:
        """0 ... K - 1."""
        return tuple(range(len(self.profile.log10_gradient)))

    @property
    def log10_gradient(self) -> Curve:
        """Of `profile`."""
        return self.profile.log10_gradient

    @property
    def spread(self) -> tuple[Curve, ...]:
        """Of `profile`."""
        return self.profile.spread

    @property
    def decay_per_step(self) -> float | None:
        """Of `profile`."""
        return self.profile.decay_per_step

    @property
    def decay_error(self) -> float | None:
        """Of `profile`."""
        return self.profile.decay_error

    @property
    def reach(self) -> int | None:
        """Of `profile`."""
        return self.profile.reach

    @property
    def reach_censored(self) -> bool:
        """Of `profile`."""
        return self.profile.reach_censored

    def __str__(self) -> str:
        others = [str(profile) for name, profile in self.modules.items() if name != self.top]
        return "\n".join([str(self.profile), *others, *(f"note: {note}" for note in self.notes)])


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples again."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
