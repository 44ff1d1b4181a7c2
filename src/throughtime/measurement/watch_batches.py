"""The batches of a loop whose model keeps a state, in their order, so that they can be trained on once more."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

__all__ = ["WatchedBatches"]

_MOST_NUMBERS = 1 << 22
"""Of all batches together: 16 megabytes."""


class WatchedBatches:
    """Copies of what a model was called with, where that is one tensor, and of the targets of these calls.

    What is missing in the middle would make neighbours of batches that were none, so the first one that does not fit
    is the last one.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Tensor, Tensor | None]] = []
        self._num_numbers = 0
        self._ended = False

    @property
    def found(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """One after the other, up to the first one whose targets are not known."""
        known: list[tuple[Tensor, Tensor]] = []
        for x, y in self._calls:
            if y is None:
                break
            known.append((x, y))
        return tuple(known)

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a call."""
        leaves = tree_flatten((args, kwargs))[0]
        alone = len(args) == 1 and not kwargs and len(leaves) == 1 and isinstance(leaves[0], Tensor)
        if self._ended or not alone or not self._has_room(leaves[0]):
            self._ended = True
            return
        self._calls.append((leaves[0].detach().clone(), None))

    def targets(self, targets: Tensor) -> None:
        """Of the last call."""
        if not self._ended and self._calls and self._has_room(targets):
            self._calls[-1] = (self._calls[-1][0], targets.detach().clone())

    def drop(self) -> None:
        """Forget all, for good."""
        self._calls, self._ended = [], True

    def _has_room(self, tensor: Tensor) -> bool:
        self._num_numbers += tensor.numel()
        return self._num_numbers <= _MOST_NUMBERS
