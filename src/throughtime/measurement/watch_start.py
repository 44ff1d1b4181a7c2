"""Where a training began: its first weights and its first batch, kept until there is something else to look at.

A training that ends in NaN leaves nothing behind to be measured. What its gradient did on the way back through time
before the first update tells whether it was that, or the update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.model_copy import copied
from throughtime.measurement.watch_probe import Batch, Prober

__all__ = ["MOST_STEPS", "Start"]

MOST_STEPS = 64
"""What turns into NaN later did not begin there."""


@dataclass(frozen=True)
class Start:
    """The weights on the CPU, so that a training whose accelerator is full has room, and the batch by reference.

    Attributes:
        weights: of the model, in order.
        batch: of its first step.
        targets: of it, if they were handed over.
    """

    weights: tuple[Tensor, ...]
    batch: Batch
    targets: Tensor | None

    @classmethod
    def of(cls, parameters: Sequence[Tensor], batch: Batch, targets: Tensor | None) -> Start:
        """As they are now."""
        return cls(tuple(p.detach().to("cpu", copy=True) for p in parameters), batch, targets)

    def record(self, model: nn.Module, loss: Callable[..., Any] | None, time_dim: int | None) -> GradientRecord:
        """The gradient through time of a copy of `model` with these weights.

        Raises:
            InputError: if it cannot be measured.
        """
        begun = copied(model)
        with torch.no_grad():
            for parameter, weight in zip(begun.parameters(), self.weights, strict=True):
                parameter.copy_(weight)
        return Prober(begun, loss, time_dim).record(self.batch, self.targets)
