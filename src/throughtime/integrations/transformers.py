"""Hugging Face: a callback that watches `Trainer.train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from throughtime.integrations.choices import WatchChoices
from throughtime.integrations.feed import Feed, Writer
from throughtime.integrations.watching import Watching
from throughtime.measurement import watch

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(
        f"TrainerWatch needs Hugging Face's library, which cannot be imported ({error}): "
        "pip install 'throughtime[transformers]'"
    ) from error

__all__ = ["TrainerWatch"]


class TrainerWatch(Watching, TrainerCallback):
    """Watches a Trainer as `throughtime.watch` watches a loop.

    The Trainer tells its callbacks of gradients after it has clipped them. Those before are therefore taken at the end
    of the backward pass, by hooks on the parameters. The loss is the "loss" of the model's outputs, where it has one.

    Args:
        writers: places to write to.
        log_every: steps between two looks at what is new.
        choices: as in `throughtime.watch`.

    Attributes:
        watched: the watch; None before training.

    Raises:
        RecipeError: if a choice is unknown or out of range.

    Example:
        `Trainer(model, arguments, train_dataset=data, callbacks=[TrainerWatch(every=100)]).train()`
    """

    def __init__(self, *, writers: Sequence[Writer] = (), log_every: int = 50, **choices: Unpack[WatchChoices]) -> None:
        self._choose(writers, log_every, choices)
        self._losses: list[Tensor] = []
        self._are_shares = False
        self._remove: Callable[[], None] = lambda: None

    def on_train_begin(self, args: Any, state: Any, control: Any, **seen: Any) -> None:  # noqa: ARG002 - the Trainer's
        """Begin."""
        self.stop()
        model, optimizer = seen["model"], seen["optimizer"]
        scaler = getattr(optimizer, "scaler", None)
        self.watched = watch(model, _original(optimizer), scaler=scaler, **self._choices).start()
        self._feed = Feed(self.watched, self._writers)
        self._remove = model.register_forward_hook(self._see_result, with_kwargs=True).remove

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **seen: Any) -> None:  # noqa: ARG002
        """Hand over the loss of the step, of all batches that it accumulates."""
        if self.watched is not None and self._losses:
            total = torch.stack(self._losses).sum()
            self.watched.loss(total if self._are_shares else total / len(self._losses))
        self._losses = []

    def on_step_end(self, args: Any, state: Any, control: Any, **seen: Any) -> None:  # noqa: ARG002
        """Hand on what is new."""
        if self._feed is not None and state.global_step % self._log_every == 0:
            self._feed.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **seen: Any) -> None:  # noqa: ARG002
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Take all hooks away: the Trainer calls this when it ends, but not when it fails."""
        self._remove()
        self._remove = lambda: None
        self._losses = []
        self._stop_watching()

    def _see_result(self, model: nn.Module, args: Any, kwargs: dict[str, Any], result: Any) -> None:  # noqa: ARG002
        if not (model.training and torch.is_grad_enabled()):
            return
        value = result.get("loss") if hasattr(result, "get") else None
        if isinstance(value, Tensor):
            # A model that is told the number of items of all batches of a step gives a share of the step's loss.
            self._are_shares = kwargs.get("num_items_in_batch") is not None
            self._losses.append(value.detach().mean())


def _original(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside the one that steps when gradients are in step, which has no hooks."""
    while not isinstance(optimizer, torch.optim.Optimizer) or "_optimizer_step_pre_hooks" not in vars(optimizer):
        optimizer = optimizer.optimizer
    return optimizer
