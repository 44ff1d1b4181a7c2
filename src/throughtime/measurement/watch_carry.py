"""Whether a training loop hands its state from batch to batch, and whether a batch goes on where the last one ended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

__all__ = ["Carrying"]

_MOST_CALLS = 64
"""What a loop does with its state shows in its first calls; later ones are not looked at."""

_MOST = 0.9
"""Of the targets; some may be marked as ignored."""


class Carrying:
    """Looks at what a model is called with, and at what it returned the time before.

    Handed on is a row of the batch whose state, in the tensors after the first one, equals what the call before
    returned. It goes on where the last target of the call before is its first input, as in texts cut into windows;
    against chance that is compared with the targets of the row below. Targets that are not the next inputs within a
    call either (an echo of older ones, say) cannot tell.
    """

    def __init__(self) -> None:
        self._returned: list[Tensor] = []
        self._last_x: Tensor | None = None
        self._num_calls = 0
        self._targets: Tensor | None = None
        self._handed: list[float] = []
        self._going_on: list[tuple[float, float]] = []
        self._below: list[tuple[float, float]] = []

    @property
    def full(self) -> bool:
        """Whether enough was seen, be it that nothing is ever handed on."""
        return self._num_calls >= _MOST_CALLS

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a call."""
        self._num_calls += 1
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if not tensors or tensors[0].dim() < 2:
            return
        x, given = tensors[0].detach(), tensors[1:]
        if self._returned and self._last_x is not None and self._last_x.shape == x.shape:
            self._handed.append(self._share_handed(given, x))
            if self._targets is not None and _are_next_inputs(self._targets, self._last_x):
                self._going_on.append(_shares(self._targets, x, 0))
                self._below.append(_shares(self._targets, x, 1))
        self._last_x, self._targets, self._returned = None if self.full else x.clone(), None, []

    def returned(self, result: Any) -> None:
        """After it: what it returned besides its first output, which may be its state."""
        tensors = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        self._returned = [tensor.detach().clone() for tensor in tensors[1:]]

    def targets(self, targets: Tensor) -> None:
        """Of the last call, as its input lies or flattened."""
        x = self._last_x
        if x is not None and targets.numel() == x.numel():
            self._targets = targets.detach().reshape(x.shape).clone()

    def found(self) -> dict[str, float | None] | None:
        """Shares of rows, means over calls: "handed_on", and "going_on", None where no targets were handed over."""
        if not self._handed:
            return None
        going_on = None
        if self._going_on:
            own, below = torch.tensor(self._going_on).mean(0), torch.tensor(self._below).mean(0)
            time = int(own.argmax())
            going_on = max(0.0, float((own[time] - below[time]) / (1 - below[time]).clamp(min=1e-6)))
        return {
            "handed_on": sum(self._handed) / len(self._handed),
            "going_on": going_on,
            "num_calls": float(len(self._handed)),
        }

    def _share_handed(self, given: list[Tensor], x: Tensor) -> float:
        """Of the rows of a batch; rows lie along whichever axis of a state is as long as one of the first two of x."""
        shares = []
        for old in self._returned:
            for new in given:
                if new.shape != old.shape or not new.is_floating_point():
                    continue
                axis = next((a for a in (1, 0) if old.dim() > a and old.size(a) in x.shape[:2]), None)
                if axis is None or not bool(old.any()):
                    continue
                shares.append(float((new.detach() == old).movedim(axis, 0).flatten(1).all(1).double().mean()))
        return max(shares, default=0.0)


def _are_next_inputs(targets: Tensor, x: Tensor) -> bool:
    """Whether the target of a step is the input of the next, along axis 0 or 1."""
    axes = [(axis, x.size(axis) - 1) for axis in (0, 1) if x.size(axis) > 1]
    return any(bool(_mostly(targets.narrow(axis, 0, n), x.narrow(axis, 1, n))) for axis, n in axes)


def _mostly(one: Tensor, other: Tensor) -> Tensor:
    return (one == other).double().mean() > _MOST


def _shares(targets: Tensor, x: Tensor, shift: int) -> tuple[float, float]:
    """Of the rows whose last target is the first input, with time along axis 0 and along axis 1."""
    by_time_first = (targets[-1].roll(shift, 0) == x[0]).double().mean()
    by_batch_first = (targets[:, -1].roll(shift, 0) == x[:, 0]).double().mean()
    return float(by_time_first), float(by_batch_first)
