"""The targets of a loss that a script computes itself: what it subtracts from its outputs, or they from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from throughtime.measurement.arguments import tensors_within
from throughtime.workflow.caught_loss import CaughtLoss
from throughtime.workflow.replay import between
from throughtime.workflow.step_tape import Call

__all__ = ["written_loss"]

_DIFFERENCES = ("sub", "subtract", "rsub", "__sub__", "__rsub__")


@dataclass(frozen=True, eq=False)
class _Written:
    """A script's own loss of its outputs and targets: one number, whatever reduction is asked for."""

    loss: Callable[..., Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor, **_: Any) -> Tensor:
        return self.loss(outputs, targets)


def written_loss(calls: Sequence[Call], root: Tensor) -> CaughtLoss | None:
    """A loss that begins with a residual, as if it were a call of one of torch's; None where it does not.

    Of several differences the last one counts, with nothing but its outputs and constants going into the loss.

    Args:
        calls: of one step.
        root: the loss, from which the backward pass begins.
    """
    for outputs, targets in reversed(list(_residuals(calls))):
        loss = between(calls, [outputs, targets], root)
        if loss is not None:
            numbers = targets.detach().to(outputs.dtype)  # what is subtracted from numbers is one, and no class
            return CaughtLoss(_Written(loss), outputs.detach(), numbers, {}, root.detach(), outputs)
    return None


def _residuals(calls: Sequence[Call]) -> Iterator[tuple[Tensor, Tensor]]:
    """(what comes from a module, what comes from none and is as large), of each difference of the two."""
    made: set[int] = set()
    for call in calls:
        if getattr(call.function, "__name__", "") in _DIFFERENCES and len(call.args) == 2:
            one, other = call.args
            if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and one.dim():
                outputs, targets = (one, other) if id(one) in made else (other, one)
                if id(outputs) in made and id(targets) not in made and not targets.requires_grad:
                    yield outputs, targets
        made.update(id(tensor) for tensor in tensors_within(call.result))
