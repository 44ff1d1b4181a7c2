"""Whether a training loop hands its state from batch to batch, and whether a batch goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from throughtime.measurement.watch_batches import WatchedBatches
from throughtime.measurement.watch_seams import Seams

__all__ = ["Carrying", "own_tensors"]

_MOST_CALLS = 64
"""What a loop does with its state shows in its first calls; later ones are not looked at."""

_NOT_KEPT = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that are looked at otherwise, or not at all."""

_MOST = 0.9
"""Of the targets; some may be marked as ignored."""


class Carrying:
    """Looks at what a model is called with, and at what it returned the time before.

    Handed on is a row of the batch whose state, in the tensors after the first one, equals what the call before
    returned. It goes on where the last target of the call before is its first input, as in texts cut into windows;
    against chance that is compared with the targets of the row below. Targets that are not the next inputs within a
    call either (an echo of older ones, say) cannot tell; then `Seams` may.

    A model may also keep its state itself, in an attribute: that is one which a call changes, and which is there as the
    call left it when the next one begins.

    Args:
        model: that is called; None where nothing that it keeps is to be looked at.

    Attributes:
        batches: of a model that keeps a state itself.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self.batches = WatchedBatches()
        self._model = model
        self._returned: list[Tensor] = []
        self._last_x: Tensor | None = None
        self._seams = Seams()
        self._links: dict[str, float | None] | None = None
        self._at_start: dict[str, tuple[Tensor, int]] = {}
        self._left: dict[str, Tensor] = {}
        self._kept: list[float] = []
        self._num_calls = 0
        self._targets: Tensor | None = None
        self._of_last: Tensor | None = None
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
        self.batches.called(args, kwargs)
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if not tensors or tensors[0].dim() < 2:
            return
        x, given = tensors[0].detach(), tensors[1:]
        self._look_at_kept(x)
        if self._num_calls > 1 and not self._kept:
            self.batches.drop()
        if self._last_x is not None:
            self._seams.add(self._last_x, self._of_last)
        if self._returned and self._last_x is not None and self._last_x.shape == x.shape:
            self._handed.append(self._share_handed(given, x))
            if self._targets is not None and _are_next_inputs(self._targets, self._last_x):
                self._going_on.append(_shares(self._targets, x, 0))
                self._below.append(_shares(self._targets, x, 1))
        self._last_x, self._targets, self._returned = None if self.full else x.clone(), None, []
        self._of_last = None
        if self.full:
            self._links = self._linked()
            self._seams.clear()
            self._at_start = {}

    def returned(self, result: Any) -> None:
        """After it: what it returned besides its first output, which may be its state."""
        tensors = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        self._returned = [tensor.detach().clone() for tensor in tensors[1:]]
        self._left = {}
        for name, tensor in own_tensors(self._model):
            before = self._at_start.get(name)
            if before is None or before[0] is not tensor or before[1] != tensor._version:
                self._left[name] = tensor.detach().clone()
        self._at_start = {}

    def targets(self, targets: Tensor) -> None:
        """Of the last call, as its input lies or flattened."""
        x = self._last_x
        self._of_last = None if x is None else targets.detach().clone()
        if x is None:
            return
        self.batches.targets(targets)
        if targets.numel() == x.numel():
            self._targets = targets.detach().reshape(x.shape).clone()

    def found(self) -> dict[str, float | None] | None:
        """What was seen, as a record has it; None where nothing tells of a state."""
        if not self._handed and not self._kept:
            return None
        going_on = None
        if self._going_on:
            own, below = torch.tensor(self._going_on).mean(0), torch.tensor(self._below).mean(0)
            time = int(own.argmax())
            going_on = max(0.0, float((own[time] - below[time]) / (1 - below[time]).clamp(min=1e-6)))
        return {
            "handed_on": _mean(self._handed) or 0.0,
            "kept": _mean(self._kept),
            "going_on": going_on,
            **(self._linked() if self._links is None else self._links),
            "num_calls": float(max(len(self._handed), len(self._kept))),
        }

    def _linked(self) -> dict[str, float | None]:
        links = {"time_first": self._seams.link(0), "batch_first": self._seams.link(1)}
        shares = {f"linked_{name}": None if link is None else link.share for name, link in links.items()}
        errors = {f"linked_{name}_error": None if link is None else link.error for name, link in links.items()}
        return shares | errors

    def _look_at_kept(self, x: Tensor) -> None:
        """Whether what the last call left in the model is there as it was, as a call begins."""
        now = dict(own_tensors(self._model))
        shares = [_share_equal(old, now[name], x) if name in now else 0.0 for name, old in self._left.items()]
        known = [share for share in shares if share is not None]
        if known:
            self._kept.append(max(known))
        self._left = {}
        self._at_start = {name: (tensor, tensor._version) for name, tensor in now.items()}

    def _share_handed(self, given: list[Tensor], x: Tensor) -> float:
        """Of the rows of a batch."""
        shares = [_share_equal(old, new, x) for old in self._returned for new in given if new.is_floating_point()]
        return max((share for share in shares if share is not None), default=0.0)


def _mean(shares: list[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None


def own_tensors(model: nn.Module | None) -> Iterator[tuple[str, Tensor]]:
    """What may be a state among a model's attributes and buffers, by name."""
    for prefix, module in () if model is None else model.named_modules():
        kept = {name: value for name, value in vars(module).items() if name not in _NOT_KEPT} | module._buffers
        for name, value in kept.items():
            parts = value if isinstance(value, tuple | list) else (value,)
            for at, part in enumerate(parts):
                if isinstance(part, Tensor) and part.is_floating_point() and not part.is_inference():
                    yield f"{prefix}.{name}[{at}]", part


def _share_equal(old: Tensor, new: Tensor, x: Tensor) -> float | None:
    """Of the rows of a state; they lie along whichever of its axes is as long as one of the first two of x.

    None of what is no state of these rows, or one of zeros, of which none can be told.
    """
    axis = next((a for a in (1, 0) if old.dim() > a and old.size(a) in x.shape[:2]), None)
    if axis is None or not bool(old.any()):
        return None
    if new.shape != old.shape:
        return 0.0
    return float((new.detach() == old).movedim(axis, 0).flatten(1).all(1).double().mean())


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
