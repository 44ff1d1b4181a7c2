"""What a watch has seen so far, kept small however long the training lasts, and the record made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor
from torch.optim import Optimizer

from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.loss_log import LossLog
from throughtime.measurement.watch_budget import Budget
from throughtime.measurement.watch_finite import FirstNonFinite
from throughtime.measurement.watch_record import WatchRecord
from throughtime.measurement.watch_sample import SampledStep, Tally, held_by

__all__ = ["History"]

MOST_SAMPLES, FIRST_SAMPLES = 4096, 64
MOST_PROBES = 64
SUSPICIOUS_FACTOR = 1000


class History:
    """Samples, probes, losses and notes.

    Args:
        names: of the model's parameters, in order.
        parameters: these.
        optimizers: that were given.

    Attributes:
        num_steps: that have ended.
        probes: with their steps; of more than `MOST_PROBES` every second one is dropped, the first and last stay.
    """

    def __init__(self, names: Sequence[str], parameters: Sequence[Tensor], optimizers: Sequence[Optimizer]) -> None:
        self._names, self._parameters, self._optimizers = names, parameters, optimizers
        self.num_steps = 0
        self.losses = LossLog()
        self.probes: list[tuple[int, GradientRecord]] = []
        self._samples: list[dict[str, float | None]] = []
        self._tally = Tally()
        self._num_sampled = self._num_passes = 0
        self._carried: list[bool] = []
        self._notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        """What a reader should know, once."""
        self._notes[text] = None

    def add_sample(self, sample: SampledStep, *, scaled: bool) -> None:
        """Keep the sample of the step that has just ended."""
        self._num_sampled += 1
        self._num_passes += sample.num_passes
        if sample.carries_over is not None:
            self._carried.append(sample.carries_over)
        self._tally.add(sample)
        values = sample.values(self.num_steps, self.losses.last)
        before, seen = values["gradient_norm"], values["clipped_norm"]
        if not scaled and before and seen and before / seen > SUSPICIOUS_FACTOR:
            self.note(
                f"gradients are more than {SUSPICIOUS_FACTOR} times smaller when the optimizer steps than after the "
                "backward pass: clipped, or scaled by a GradScaler, which is then to be given as scaler="
            )
        self._samples.append(values)
        if len(self._samples) > MOST_SAMPLES:
            self._samples = self._samples[:FIRST_SAMPLES] + self._samples[FIRST_SAMPLES + 1 :: 2]

    def add_probe(self, found: GradientRecord, *, step: int | None = None) -> None:
        """Keep the probe made after the step that has just ended, or after another one."""
        self.probes.append((self.num_steps if step is None else step, found))
        if len(self.probes) > MOST_PROBES:
            self.probes = self.probes[:1] + self.probes[2::2]

    def record(
        self, budget: Budget, finite: FirstNonFinite, *, carrying: dict[str, float | None] | None, may_probe: bool
    ) -> WatchRecord:
        """All of it; `may_probe` says that nothing stood against probes so far."""
        held = {index for optimizer in self._optimizers for index in held_by(optimizer, self._parameters)}
        trainable = {index for index, parameter in enumerate(self._parameters) if parameter.requires_grad}
        known = trainable if self._num_sampled else set()
        notes = tuple(self._notes)
        if may_probe and not self.probes and self.num_steps >= budget.every:
            notes += ("no probe was made: none fitted into max_overhead, or the model itself was never called",)
        return WatchRecord(
            num_steps=self.num_steps,
            samples=tuple(self._samples),
            losses=self.losses.values,
            losses_every=self.losses.stride_steps,
            probes={str(step): asdict(record) for step, record in self.probes},
            never_updated=self._named(known - self._tally.changed),
            without_gradient=self._named(known - self._tally.had_gradient),
            not_in_optimizer=self._named(trainable - held),
            frozen=self._named(set(range(len(self._parameters))) - trainable),
            non_finite=finite.found,
            accumulating=sum(self._carried) / len(self._carried) if self._carried else None,
            backward_passes_per_step=self._num_passes / self._num_sampled if self._num_sampled else None,
            overhead_share=budget.overhead_share,
            probe_seconds=budget.probe_seconds / budget.num_probes if budget.num_probes else None,
            sample_seconds=budget.sample_seconds / budget.num_samples if budget.num_samples else None,
            step_seconds=budget.step_seconds,
            interval_steps=budget.interval_steps,
            notes=notes,
            carrying=carrying,
        )

    def _named(self, places: set[int]) -> tuple[str, ...]:
        return tuple(self._names[index] for index in sorted(places))
