"""What is diagnosed: a model, a batch, a loss, and whatever else its user can hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement import WatchRecord

__all__ = ["BrokenOff", "Case", "Missing"]

_LONGEST_REASON = 200
"""Characters: some of torch's messages hold whole tensors."""


class Missing(Exception):
    """Evidence that is not there; the message says what it would take to have it."""


class BrokenOff(Missing):
    """Evidence that is not there because looking for it failed, in the user's model or in here.

    Example:
        >>> print(BrokenOff.by(RuntimeError("sizes 8 and 64 do not fit")))
        it broke off with RuntimeError: sizes 8 and 64 do not fit
    """

    @classmethod
    def by(cls, error: Exception) -> BrokenOff:
        """What an error says, in one line."""
        first = next(iter(str(error).splitlines()), "")
        return cls(f"it broke off with {type(error).__name__}{': ' if first else ''}{first[:_LONGEST_REASON]}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that `throughtime.diagnose` was given.

    Attributes:
        model: as its user has it; it is never changed.
        inputs: what it is called with: a tensor, a tuple of arguments or a dict of named ones.
        targets: second argument of the loss.
        loss: (outputs, targets) -> losses of positions or sequences, or a scalar.
        optimizers: all of them.
        history: what `throughtime.watch` saw of its training, or None.
        batches: (inputs, targets) that the watched loop trained on, one after the other, where the model keeps a state.
        window: steps of truncated backpropagation through time in its training loop, or None.
        lengths: (B,) of the sequences, or None.
        time_dim: axis of time in the inputs, or None.
        validation: (inputs, targets) that it is not trained on, or None.
        need: steps of memory that the user knows the task to need, or None.
        more: further (inputs, targets), for the need alone.
        seed: of all that is drawn.
    """

    model: nn.Module
    inputs: Any
    targets: Any
    loss: Callable[..., Any]
    optimizers: tuple[torch.optim.Optimizer, ...] = ()
    history: WatchRecord | None = None
    batches: tuple[tuple[Tensor, Tensor], ...] = ()
    window: int | None = None
    lengths: Tensor | Sequence[int] | None = None
    time_dim: int | None = None
    validation: tuple[Any, Any] | None = None
    need: int | None = None
    more: Iterable[tuple[Any, Any]] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(self.model).__name__}")
        if not callable(self.loss):
            raise InputError(f"loss must be a function of (outputs, targets), not {type(self.loss).__name__}")
        for optimizer in self.optimizers:
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise InputError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if self.validation is not None and not (
            isinstance(self.validation, tuple | list) and len(self.validation) == 2
        ):
            raise InputError("validation must be (inputs, targets)")
        if not isinstance(self.more, Iterable):
            raise InputError(f"more must be batches (inputs, targets), not {type(self.more).__name__}")
        if self.time_dim not in (None, 0, 1):
            raise InputError(f"time_dim must be 0 or 1, not {self.time_dim}")
        for name, steps, least in (("window", self.window, 1), ("need", self.need, 0)):
            if steps is not None and steps < least:
                raise InputError(f"{name} must be at least {least} steps, not {steps}")
