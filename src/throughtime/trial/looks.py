"""Looks at one training of an arm: its loss and its gradient through time at some of its steps, to be drawn.

They are taken of copies, and all random states are put back, so that a training that is looked at gives the same
numbers bit for bit. How many there are follows from the number of updates alone, and not from a clock: a trial that is
made again, or in other processes, has the same record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from throughtime.measurement import GradientHistory, GradientRecord, measure
from throughtime.measurement.gradient_record import Curve
from throughtime.measurement.model_copy import copied
from throughtime.remedy import TreatmentPlan
from throughtime.trial import loop
from throughtime.trial.patient import Batches, Patient, option
from throughtime.trial.rows import FiniteRows
from throughtime.trial.surroundings import seeded

__all__ = ["Look", "Looking", "Looks", "looked_at_steps"]

_MOST = 12
"""Looks, beside the one at the end."""
_STEPS_A_LOOK = 50
"""Updates for each of them: one look takes as long as five to ten updates."""
_FEWEST = 2
_MOST_LAGS = 512
"""That are kept of a curve."""
_DIGITS = 2
"""Of log10 of the gradient, behind the point: less than a colour can show."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one step.

    Attributes:
        loss: None where it is not finite, or could not be computed.
        gradient: through time; None where it could not be measured.
        window: steps of truncated backpropagation through time; None where there is none.
        cannot_tell: why there is no gradient; empty where there is one.
    """

    loss: float | None
    gradient: GradientRecord | None
    window: int | None = None
    cannot_tell: str = ""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What was seen of one training.

    Attributes:
        seed: of the training.
        steps: updates made at each look, ascending: 0 before the first, then ever further apart, the last at the end.
        losses: at each of them, on the same data, as in evaluation; None where it is not finite.
        module: the layer that speaks for the model; empty where no gradient was measured.
        log10_gradient: its curve at each of `steps`, as in a `GradientHistory`, as far as 512 lags.
        reach: likewise.
        censored: likewise.
        num_sequences: over which each curve is a mean.
        window: steps of truncated backpropagation through time; None where there is none.
        cannot_tell: why there is no gradient at all; empty where there is one.
    """

    seed: int
    steps: tuple[int, ...]
    losses: tuple[float | None, ...]
    module: str = ""
    log10_gradient: tuple[Curve, ...] = ()
    reach: tuple[int | None, ...] = ()
    censored: tuple[bool, ...] = ()
    num_sequences: int = 0
    window: int | None = None
    cannot_tell: str = ""

    @classmethod
    def of(cls, seed: int, seen: Mapping[int, Look]) -> Looks:
        """From single ones, by step, at least one."""
        steps = tuple(sorted(seen))
        looks = [seen[step] for step in steps]
        records = [look.gradient for look in looks]
        last = next((record for record in reversed(records) if record is not None), None)
        losses = tuple(_short(look.loss) for look in looks)
        whole = cls(seed=seed, steps=steps, losses=losses, window=looks[0].window)
        if last is None:
            return replace(whole, cannot_tell=looks[0].cannot_tell)
        profiles = [None if record is None else record.modules.get(last.top) for record in records]
        return replace(
            whole,
            module=last.top,
            log10_gradient=tuple(_rounded(profile.log10_gradient) if profile else () for profile in profiles),
            reach=tuple(profile.reach if profile else None for profile in profiles),
            censored=tuple(bool(profile and profile.reach_censored) for profile in profiles),
            num_sequences=last.profile.num_sequences,
        )

    @property
    def history(self) -> GradientHistory | None:
        """To be drawn as that of a run is; None where no gradient was measured."""
        if not self.module:
            return None
        return GradientHistory(
            steps=self.steps,
            top=self.module,
            layers={self.module: self.log10_gradient},
            reach={self.module: self.reach},
            censored={self.module: self.censored},
            window=self.window,
            num_sequences=self.num_sequences,
        )

    @property
    def without_gradient(self) -> Looks:
        """The losses alone, which take little room."""
        return Looks(seed=self.seed, steps=self.steps, losses=self.losses, window=self.window)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Looks:
        """Of its fields, with lists, as JSON has them, as tuples again."""
        return cls(**{name: _tuples(value) for name, value in values.items()})


def looked_at_steps(num_steps: int) -> tuple[int, ...]:
    """Ever further apart, since a training changes most in its beginning; the end is looked at beside them.

    Example:
        >>> looked_at_steps(25), looked_at_steps(200)
        ((0, 6), (0, 12, 50, 112))
    """
    several = min(_MOST, max(_FEWEST, num_steps // _STEPS_A_LOOK))
    return tuple(sorted({round(num_steps * (place / several) ** 2) for place in range(several)}))


class Looking:
    """Looks at a training through a hook of its optimizer.

    Args:
        patient: that is trained, under the plan.
        plan: whose window counts.
        model: of the patient.
        seed: of the training; the loss and the gradient are those of its first batch.
        num_steps: updates of the training.
    """

    def __init__(self, patient: Patient, plan: TreatmentPlan, model: nn.Module, *, seed: int, num_steps: int) -> None:
        self.patient, self.model, self.seed = patient, model, seed
        self.window: int | None = plan.window or option(patient, "window")
        self.num_done = 0
        self._wanted = frozenset(looked_at_steps(num_steps))
        self._batch: tuple[Any, Any] | None = None
        self._seen: dict[int, Look] = {}
        self._refused = ""

    @property
    def looks(self) -> Looks | None:
        """What was seen so far; None where nothing was."""
        return Looks.of(self.seed, self._seen) if self._seen else None

    @contextmanager
    def during(self, optimizer: Optimizer) -> Iterator[None]:
        """Look before the block, at some updates inside of it, and behind it."""
        self._look()
        handle = optimizer.register_step_post_hook(self._after)
        try:
            yield
        finally:
            handle.remove()
        self._look()

    def _after(self, *_: Any) -> None:
        self.num_done += 1
        if self.num_done in self._wanted:
            self._look()

    def _look(self) -> None:
        if self.num_done in self._seen:
            return
        own: Callable[[nn.Module], Look] | None = option(self.patient, "look")
        with seeded(self.seed):
            try:
                self._seen[self.num_done] = self._ours() if own is None else own(self.model)
            except Exception as error:  # of the user's model or loss: a picture beside the proof, and no part of it
                self._seen[self.num_done] = Look(loss=None, gradient=None, cannot_tell=_line(error))

    def _ours(self) -> Look:
        """On the first batch; a model that is called otherwise, as by a loop of its user's, raises."""
        if hasattr(self.patient, "treated"):
            return Look(loss=None, gradient=None, cannot_tell="the patient has no `look(model)` of its own")
        patient, time_dim = self.patient, option(self.patient, "time_dim")
        model = copied(self.model).eval()
        if self._batch is None:
            self._batch = next(FiniteRows(Batches(patient, self.seed), model, time_dim))
        inputs, targets = self._batch
        with torch.no_grad():
            loss = float(loop.mean_loss(patient, loop.called(model, inputs)[0], targets))
        gradient = None
        if not self._refused:
            try:
                gradient = measure(
                    model,
                    inputs,
                    targets,
                    patient.loss,
                    lengths=option(patient, "lengths"),
                    time_dim=time_dim,
                    max_lag=_MOST_LAGS,
                )
            except Exception as error:
                if not self._seen:  # what cannot be measured at the start is not tried again and again
                    self._refused = _line(error)
        finite = loss if math.isfinite(loss) else None
        return Look(loss=finite, gradient=gradient, window=self.window, cannot_tell=self._refused)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _short(loss: float | None) -> float | None:
    return None if loss is None or not math.isfinite(loss) else float(f"{loss:.6g}")


def _rounded(curve: Curve) -> Curve:
    kept = curve[: _MOST_LAGS + 1]
    return tuple(None if value is None else round(value, _DIGITS) for value in kept)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
