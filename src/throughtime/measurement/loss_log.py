"""The losses that a loop hands over, step by step, read from their device only now and then."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LossLog"]

MOST = 2**14
"""Losses kept; beyond that two neighbours become one."""

PENDING = 1024


class LossLog:
    """Losses of one step are averaged, and so are those of neighbouring steps when they become too many.

    Attributes:
        stride_steps: each value is the mean over so many steps.
        non_finite_step: the first step with a loss that is infinite or NaN.
        last: of the last step that was read; None where there is none, or none that is finite.
    """

    def __init__(self) -> None:
        self.stride_steps = 1
        self.non_finite_step: int | None = None
        self.last: float | None = None
        self._now: list[float | Tensor] = []
        self._pending: list[list[float | Tensor]] = []
        self._num_settled = 0
        self._values: list[float | None] = []
        self._group: list[float | None] = []

    def add(self, loss: Tensor | float) -> float | None:
        """Note a loss of the current step.

        Returns:
            Its value, where that can be had without waiting for an accelerator.
        """
        value: float | Tensor
        if isinstance(loss, Tensor):
            value = loss.detach()
            if value.numel() != 1:
                value = value.mean()
            # A copy: the loop may divide its loss in place.
            value = float(value) if value.is_cpu else value.reshape(()).clone()
        else:
            value = float(loss)
        self._now.append(value)
        return value if isinstance(value, float) else None

    def step_ended(self) -> None:
        """What comes now belongs to the next step."""
        self._pending.append(self._now)
        self._now = []
        if len(self._pending) >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Read what is still on its device, of the steps that have ended."""
        waiting = [value for step in self._pending for value in step if isinstance(value, Tensor)]
        read = iter(torch.stack(waiting).tolist() if waiting else [])
        for step in self._pending:
            values = [float(next(read)) if isinstance(value, Tensor) else float(value) for value in step]
            finite = all(map(math.isfinite, values))
            self.last = math.fsum(values) / len(values) if values and finite else None
            self._num_settled += 1
            if not finite and self.non_finite_step is None:
                self.non_finite_step = self._num_settled
            self._append(self.last)
        self._pending = []

    @property
    def values(self) -> tuple[float | None, ...]:
        """By step, or by `stride_steps` of them; None where no loss was handed over, or one that is not finite."""
        return (*self._values, *((_mean(self._group),) if self._group else ()))

    def _append(self, value: float | None) -> None:
        self._group.append(value)
        if len(self._group) < self.stride_steps:
            return
        self._values.append(_mean(self._group))
        self._group = []
        if len(self._values) >= MOST:
            self._values = [_mean(self._values[at : at + 2]) for at in range(0, MOST, 2)]
            self.stride_steps *= 2


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
