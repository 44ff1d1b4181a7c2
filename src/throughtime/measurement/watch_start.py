"""Where a training began: its first weights and its first batch, kept until there is something else to look at.

A training that ends in NaN leaves nothing behind to be measured. What its gradient did on the way back through time
before the first update tells whether it was that, or the update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from throughtime.errors import InputError
from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.model_copy import copied
from throughtime.measurement.watch_probe import Batch, Prober

__all__ = ["Start"]

_MOST_STEPS = 64
"""What turns into NaN later did not begin there."""
_MOST_NUMBERS = 1 << 27
"""Half a gigabyte."""


@dataclass(frozen=True)
class Start:
    """The weights on the CPU, so that a training whose accelerator is full has room, and the batch by reference.

    Attributes:
        weights: of the model, in order.
        batch: of its first step, or of the next one where the watch began in the middle of that.
        targets: of it, if they were handed over.
    """

    weights: tuple[Tensor, ...]
    batch: Batch | None = None
    targets: Tensor | None = None

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> Start | None:
        """As they are now; None of too many, or of some that have no shape yet."""
        if any(isinstance(p, UninitializedParameter) for p in parameters):
            return None
        if sum(p.numel() for p in parameters) > _MOST_NUMBERS:
            return None
        return cls(tuple(p.detach().to("cpu", copy=True) for p in parameters))

    def on(self, batch: Batch | None, targets: Tensor | None, num_steps: int) -> Start | None:
        """With a batch, if there is none yet; None after so many steps."""
        if num_steps >= _MOST_STEPS:
            return None
        return self if self.batch is not None or batch is None else replace(self, batch=batch, targets=targets)

    def record(self, model: nn.Module, loss: Callable[..., Any] | None, time_dim: int | None) -> GradientRecord:
        """The gradient through time of a copy of `model` with these weights.

        Raises:
            InputError: if it cannot be measured.
        """
        if self.batch is None:
            raise InputError("no batch was seen: the watch has to begin before the model is called")
        begun = copied(model)
        with torch.no_grad():
            for parameter, weight in zip(begun.parameters(), self.weights, strict=True):
                parameter.copy_(weight)
        return Prober(begun, loss, time_dim).record(self.batch, self.targets)
