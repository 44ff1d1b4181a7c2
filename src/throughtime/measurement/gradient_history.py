"""The record of the gradient through time as it changes while a network trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from throughtime.measurement.gradient_record import Curve, GradientRecord
from throughtime.storage import Record

__all__ = ["GradientHistory"]


@dataclass(frozen=True)
class GradientHistory(Record):
    """How the gradient by each layer's state depends on the lag, at some steps of a training.

    Attributes:
        steps: updates made when it was measured, ascending; 0 is before the first.
        top: name of the layer that speaks for the model: of the forward layers that with the largest reach at the end.
        layers: for each layer and direction, by its name, a curve for each of `steps`: log10 of the gradient by lag,
            relative to lag 0. None is minus infinity; a curve is empty where it could not be told.
        reach: for each layer, at each of `steps`, the largest lag whose gradient is at least 1 % of that at lag 0.
        censored: whether that is the longest lag that was looked at, likewise.
        window: steps of truncated backpropagation through time in this training; None where there is none, or it is
            not known.
        update_ratio: for each parameter, by its name, the norm of one update relative to that of the parameter, at
            each of `steps`; None where it was not measured. Empty where none was.
        num_sequences: over which each curve is a mean.
        seconds: that all measurements took.
        notes: what a reader should know.
    """

    record_kind: ClassVar[str] = "gradient-history"
    schema_version: ClassVar[int] = 1

    steps: tuple[int, ...]
    top: str
    layers: dict[str, tuple[Curve, ...]]
    reach: dict[str, tuple[int | None, ...]]
    censored: dict[str, tuple[bool, ...]]
    window: int | None = None
    update_ratio: dict[str, tuple[float | None, ...]] | None = None
    num_sequences: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        records: Mapping[int, GradientRecord],
        *,
        window: int | None = None,
        updates: Mapping[int, Mapping[str, float]] | None = None,
        seconds: float = 0.0,
        notes: tuple[str, ...] = (),
    ) -> GradientHistory:
        """From single measurements.

        Args:
            records: by step, at least one.
            window: see above.
            updates: by step and parameter, see `update_ratio`.
            seconds: see above.
            notes: see above.
        """
        steps = tuple(sorted(records))
        profiles = {step: records[step].modules for step in steps}
        names = list(dict.fromkeys(name for step in steps for name in profiles[step]))
        told = {name: [profiles[step].get(name) for step in steps] for name in names}
        parameters = dict.fromkeys(name for of_step in (updates or {}).values() for name in of_step)
        return cls(
            steps=steps,
            top=records[steps[-1]].top,
            layers={name: tuple(p.log10_gradient if p else () for p in told[name]) for name in names},
            reach={name: tuple(p.reach if p else None for p in told[name]) for name in names},
            censored={name: tuple(bool(p and p.reach_censored) for p in told[name]) for name in names},
            window=window,
            update_ratio={name: tuple((updates or {}).get(s, {}).get(name) for s in steps) for name in parameters},
            num_sequences=records[steps[-1]].profile.num_sequences,
            seconds=seconds,
            notes=notes,
        )

    def up_to(self, step: int) -> GradientHistory | None:
        """What was known after `step`; None where that is nothing."""
        kept = sum(known <= step for known in self.steps)
        return self._cut(kept) if kept else None

    def then(self, later: GradientHistory) -> GradientHistory:
        """This, and after it what was measured of the same layers at later steps."""
        mine, its = self.update_ratio or {}, later.update_ratio or {}
        unknown = (None,) * len(self.steps), (None,) * len(later.steps)
        return replace(
            later,
            steps=self.steps + later.steps,
            layers={name: self.layers[name] + curves for name, curves in later.layers.items()},
            reach={name: self.reach[name] + values for name, values in later.reach.items()},
            censored={name: self.censored[name] + values for name, values in later.censored.items()},
            update_ratio={n: mine.get(n, unknown[0]) + its.get(n, unknown[1]) for n in mine | its},
            seconds=self.seconds + later.seconds,
            notes=tuple(dict.fromkeys(self.notes + later.notes)),
        )

    def _cut(self, kept: int) -> GradientHistory:
        return replace(
            self,
            steps=self.steps[:kept],
            layers={name: curves[:kept] for name, curves in self.layers.items()},
            reach={name: values[:kept] for name, values in self.reach.items()},
            censored={name: values[:kept] for name, values in self.censored.items()},
            update_ratio={name: values[:kept] for name, values in (self.update_ratio or {}).items()},
        )

    def __str__(self) -> str:
        first, last = (self._reaches(place) for place in (0, -1))
        longest = max((len(curve) for curve in self.layers[self.top]), default=1) - 1
        when = "before training" if self.steps[0] == 0 else f"after step {self.steps[0]}"
        return (
            f"{self.top}: of {longest} steps the gradient reached {first} {when} and {last} after step {self.steps[-1]}"
        )

    def _reaches(self, place: int) -> str:
        reach = self.reach[self.top][place]
        return "unknown" if reach is None else f"{'at least ' if self.censored[self.top][place] else ''}{reach}"
