"""The record of a training loop that was watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from throughtime.measurement.gradient_record import GradientRecord
from throughtime.storage import Record

__all__ = ["WatchRecord"]

Number = float | None


@dataclass(frozen=True)
class WatchRecord(Record):
    """What a training loop did to its gradients, weights and loss; steps are the optimizer's, from 1.

    Attributes:
        num_steps: seen. Optimizers that step without a forward or backward pass between them make one step.
        samples: one dict for each sampled step (the first 64, then every second of them and so on once there are
            4096), all norms over the model's parameters held by the optimizers that made it: "step"; "loss", the mean
            of those handed over; "gradient_norm", after the last backward pass of the step, so before clipping;
            "clipped_norm", as the optimizer saw it; "update_norm"; "weight_norm", before the update; "update_ratio",
            of these two; "learning_rate", of the first group. None is not known, or not finite.
        losses: of all steps; None where none was handed over or it was not finite.
        losses_every: each of `losses` is the mean over so many steps.
        probes: by the step after which it was made, as text, the fields of a `GradientRecord`; see `records`.
        never_updated: parameters with `requires_grad` that did not change at any sampled step, for whatever reason.
        without_gradient: those that had no gradient, or one of zero, at any sampled step.
        not_in_optimizer: those that no optimizer holds.
        frozen: parameters without `requires_grad`.
        non_finite: the first NaN or infinity that was seen: "step"; "where": "input", "activation", "target", "loss",
            "gradient" or "weight"; "name", of the module or parameter, or None; "last_finite_step", the last sampled
            step at which all was finite (0 for none). None where all was finite.
        accumulating: share of the sampled steps whose first backward pass found gradients left from before the step
            before, so that they add up across steps; None where no step could tell.
        backward_passes_per_step: mean over sampled steps.
        overhead_share: time of our own, samples and probes and all else that is timed / time of training.
        probe_seconds: mean of a probe; None without one.
        sample_seconds: mean of a sample; None without one.
        step_seconds: of a step of training, the median of the last ones.
        interval_steps: between probes, as their cost allows.
        notes: what a reader should know.
        carrying: how the loop treats its state, over the first calls of the model: "handed_on", the share of rows whose
            state is the one that the call before returned; "kept", the share of rows whose state in the model itself
            (what a call changed in its attributes) is there as the call before left it, None without such; "going_on",
            the share of rows that go on where the call before ended, beyond chance, None unless targets were handed
            over that are the next inputs; "linked_time_first" and "linked_batch_first", with "..._error", the share of
            what the steps before tell of a step that they still tell across the seam of two batches, with time along
            the first or second axis, None where they tell nothing; "num_calls". None with a single call.
    """

    record_kind: ClassVar[str] = "watch"
    schema_version: ClassVar[int] = 1

    num_steps: int
    samples: tuple[dict[str, Number], ...]
    losses: tuple[Number, ...]
    losses_every: int
    probes: dict[str, dict[str, Any]]
    never_updated: tuple[str, ...]
    without_gradient: tuple[str, ...]
    not_in_optimizer: tuple[str, ...]
    frozen: tuple[str, ...]
    non_finite: dict[str, Any] | None
    accumulating: Number
    backward_passes_per_step: Number
    overhead_share: float
    probe_seconds: Number
    sample_seconds: Number
    step_seconds: Number
    interval_steps: int
    notes: tuple[str, ...]
    carrying: dict[str, Number] | None = None

    @property
    def records(self) -> dict[int, GradientRecord]:
        """The probes by their steps."""
        return {int(step): GradientRecord(**fields) for step, fields in self.probes.items()}

    def __str__(self) -> str:
        return "\n".join([self._summary(), *self._findings(), *(f"note: {note}" for note in self.notes)])

    def _summary(self) -> str:
        cost = f", in {self.overhead_share:.1%} of the training time" if self.num_steps else ""
        line = f"{self.num_steps} steps, {len(self.samples)} sampled, {len(self.probes)} probed{cost}"
        if self.probes:
            step, record = list(self.records.items())[-1]
            line += f"\nafter step {step}: {record.profile}"
        return line

    def _findings(self) -> list[str]:
        found = []
        if self.non_finite is not None:
            name = f" of {self.non_finite['name']}" if self.non_finite["name"] else ""
            found.append(f"not finite from step {self.non_finite['step']}: the {self.non_finite['where']}{name}")
        if self.accumulating:
            found.append(f"gradients are left from the step before at {self.accumulating:.0%} of the sampled steps")
        lists = {
            "held by no optimizer": self.not_in_optimizer,
            "without a gradient": self.without_gradient,
            "never updated": self.never_updated,
        }
        found += [f"{what}: {', '.join(names)}" for what, names in lists.items() if names]
        return found
