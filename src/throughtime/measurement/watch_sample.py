"""One sampled step: what its backward passes and its optimizers did to gradients and weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from throughtime.measurement.watch_hooks import BackwardWatch
from throughtime.measurement.watch_norms import norms, total

__all__ = ["SampledStep", "Tally", "held_by"]

Parameters = Sequence[Tensor]


class SampledStep:
    """Gathers norms by the place of a parameter in the model.

    The gradient before clipping is that at the end of the last backward pass before an optimizer steps: passes before
    it only accumulate, and whatever comes after it (unscaling, clipping) is the loop's own.

    Args:
        parameters: of the model, in order.
        scaler: a `torch.amp.GradScaler` whose scale is taken out of the gradients, or None.
        after_another: whether optimizers have stepped before, so that gradients should have been reset since.

    Attributes:
        num_passes: backward passes seen.
        carried: by parameter, whether a gradient was there before the first of them; None where that cannot be told.
        gradient: norms before clipping.
        seen: norms as the optimizers saw them.
        weight: norms of the weights before the update, of all parameters with `requires_grad`.
        update: norms of what was added to the weights that the optimizers hold.
        learning_rate: of the first optimizer's first group.
    """

    def __init__(self, parameters: Parameters, scaler: Any, *, after_another: bool) -> None:
        self._parameters = parameters
        self._scaler = scaler
        self._after_another = after_another
        self._latest: dict[int, float] = {}
        self._copies: dict[int, Tensor] = {}
        self.num_passes = 0
        self.carried: dict[int, bool] | None = None
        self.gradient: dict[int, float] = {}
        self.seen: dict[int, float] = {}
        self.weight: dict[int, float] = {}
        self.update: dict[int, float] = {}
        self.learning_rate: float | None = None

    def watched(self, ours: Any) -> BackwardWatch:
        """Hooks on the parameters; `ours` is a context in which they do their work."""

        def begins() -> None:
            with ours():
                self._backward_begins()

        def ended() -> None:
            with ours():
                self._backward_ended()

        return BackwardWatch([p for _, p in self._trainable()], begins, ended)

    def before_step(self, optimizer: Optimizer, *, closure: bool) -> None:
        """Before an optimizer steps; what a closure is going to compute is seen afterwards."""
        held = held_by(optimizer, self._parameters)
        if self.learning_rate is None:
            self.learning_rate = float(optimizer.param_groups[0]["lr"])
        trainable = self._trainable()
        weights = norms([p for _, p in trainable])
        self.weight = dict(zip([index for index, _ in trainable], weights, strict=True)) | self.weight
        if not closure:
            self._see(optimizer, held)
        self._copies = {index: self._parameters[index].detach().clone() for index in held}

    def after_step(self, optimizer: Optimizer, *, closure: bool) -> None:
        """After it."""
        if closure:
            self._see(optimizer, list(self._copies))
        copies = list(self._copies.values())
        if copies:
            torch._foreach_sub_(copies, [self._parameters[index].detach() for index in self._copies])
            self.update |= dict(zip(self._copies, norms(copies), strict=True))
        self._copies = {}

    def values(self, step: int, loss: float | None) -> dict[str, float | None]:
        """The sample, as a record has it."""
        held = self.update.keys()
        update, weight = total(self.update, held), total(self.weight, held)
        found = {
            "loss": loss,
            "gradient_norm": total(self.gradient, held),
            "clipped_norm": total(self.seen, held),
            "update_norm": update,
            "weight_norm": weight,
            "update_ratio": update / weight if update is not None and weight else None,
            "learning_rate": self.learning_rate,
        }
        finite = {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}
        return {"step": step, **finite}

    @property
    def carries_over(self) -> bool | None:
        """Whether a parameter that was updated had a gradient before the first backward pass."""
        return None if self.carried is None else any(self.carried.get(index, False) for index in self.update)

    def _trainable(self) -> list[tuple[int, Tensor]]:
        pairs = enumerate(self._parameters)
        return [(index, p) for index, p in pairs if p.requires_grad and not isinstance(p, UninitializedParameter)]

    def _gradients(self, indices: Iterable[int]) -> dict[int, float]:
        found = {index: self._parameters[index].grad for index in indices}
        there = {index: gradient for index, gradient in found.items() if gradient is not None}
        return dict(zip(there, norms(list(there.values())), strict=True))

    def _backward_begins(self) -> None:
        if self._after_another and self.carried is None and not self.num_passes:
            before = self._gradients(index for index, _ in self._trainable())
            self.carried = {index: norm > 0 for index, norm in before.items()}

    def _backward_ended(self) -> None:
        self.num_passes += 1
        scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        found = self._gradients(index for index, _ in self._trainable())
        self._latest = {index: norm / scale for index, norm in found.items()}

    def _see(self, optimizer: Optimizer, held: list[int]) -> None:
        # An optimizer that unscales by itself (fused ones do) has the scale as an attribute during the step.
        scale = getattr(optimizer, "grad_scale", None)
        divisor = 1.0 if scale is None else float(scale)
        self.seen |= {index: norm / divisor for index, norm in self._gradients(held).items()}
        # An optimizer that stepped before keeps what it saw; what none holds is there for the tally.
        now = {index: self._latest[index] for index in held if index in self._latest}
        self.gradient = self._latest | self.gradient | now


class Tally:
    """What the sampled steps have shown of each parameter so far.

    Attributes:
        had_gradient: places of parameters that had a gradient other than zero.
        changed: places of those that changed.
    """

    def __init__(self) -> None:
        self.had_gradient: set[int] = set()
        self.changed: set[int] = set()
        self._first_weight: dict[int, float] = {}

    def add(self, sample: SampledStep) -> None:
        """Count one more."""
        for norms_by_place in (sample.gradient, sample.seen):
            self.had_gradient |= {index for index, norm in norms_by_place.items() if norm != 0}
        self.changed |= {index for index, norm in sample.update.items() if norm != 0}
        for index, norm in sample.weight.items():
            if self._first_weight.setdefault(index, norm) != norm:
                self.changed.add(index)


def held_by(optimizer: Optimizer, parameters: Parameters) -> list[int]:
    """Places of the parameters that an optimizer holds, frozen and empty ones apart."""
    theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
    pairs = enumerate(parameters)
    lazy = UninitializedParameter
    return [index for index, p in pairs if id(p) in theirs and p.requires_grad and not isinstance(p, lazy)]
