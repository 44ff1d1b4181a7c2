"""What a script does between its model and its loss, found by comparing numbers: a last step taken, axes joined."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["LOSS_FUNCTIONS", "CaughtLoss", "Form", "LossCalls", "form_between"]

LOSS_FUNCTIONS = (
    F.cross_entropy,
    F.nll_loss,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.kl_div,
    F.poisson_nll_loss,
)
"""Functions of (outputs, targets) that make a script's loss; the modules of `torch.nn` call these."""


@dataclass(frozen=True)
class Form:
    """How outputs come into the form in which a loss takes them, and targets and losses into that of the outputs.

    Attributes:
        of_outputs: the model's output -> what the loss is called with.
        targets_from: (targets as the loss takes them, the model's output) -> targets by example and step.
        targets_for: the way back: targets by example and step -> as the loss takes them.
        losses_from: (losses as the loss gives them, the model's output) -> losses by example and step.
    """

    of_outputs: Callable[[Tensor], Tensor]
    targets_from: Callable[[Tensor, Tensor], Tensor] = lambda targets, _: targets
    targets_for: Callable[[Tensor], Tensor] = lambda targets: targets
    losses_from: Callable[[Tensor, Tensor], Tensor] = lambda losses, _: losses


def _apart(joined: Tensor, outputs: Tensor) -> Tensor:
    """One axis of all positions -> the first two of the outputs."""
    return joined.reshape(*outputs.shape[:2], *joined.shape[1:])


def _apart_turned(joined: Tensor, outputs: Tensor) -> Tensor:
    """The same, where the axes were turned before they were joined."""
    return joined.reshape(outputs.size(1), outputs.size(0), *joined.shape[1:]).transpose(0, 1)


def _turned(each: Tensor, _: Tensor | None = None) -> Tensor:
    return each.transpose(0, 1)


def _like(flat: Tensor, outputs: Tensor) -> Tensor:
    return flat.reshape(outputs.shape)


_FORMS = (
    Form(lambda y: y),
    Form(lambda y: y[:, -1]),
    Form(lambda y: y[-1]),
    Form(lambda y: y.flatten(0, 1), _apart, lambda targets: targets.flatten(0, 1), _apart),
    Form(
        lambda y: y.transpose(0, 1).flatten(0, 1),
        _apart_turned,
        lambda targets: targets.transpose(0, 1).flatten(0, 1),
        _apart_turned,
    ),
    Form(lambda y: y.transpose(1, 2)),
    Form(lambda y: y.permute(1, 2, 0), _turned, _turned, _turned),
    Form(lambda y: y.squeeze(-1)),
    Form(lambda y: y[:, -1].squeeze(-1)),
    Form(lambda y: y[-1].squeeze(-1)),
    Form(lambda y: y.flatten(), _like, lambda targets: targets.flatten(), _like),
    Form(lambda y: y.mean(1)),
    Form(lambda y: y.mean(0)),
)


def form_between(outputs: Tensor, given: Tensor) -> Form | None:
    """The first form in which a model's output is what the loss was given; None where none fits.

    Example:
        >>> import torch
        >>> outputs = torch.randn(4, 7, 3)
        >>> form = form_between(outputs, outputs[:, -1])
        >>> form.of_outputs(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 3])
    """
    for form in _FORMS:
        try:
            formed = form.of_outputs(outputs)
        except (IndexError, RuntimeError):
            continue
        if formed.shape == given.shape and _same(formed.detach(), given.detach()):
            return form
    return None


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit; NaN, as a model that has blown up gives it, is as good as NaN."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


@dataclass(frozen=True)
class CaughtLoss:
    """A call of a loss function in a script.

    Attributes:
        function: one of `LOSS_FUNCTIONS`.
        outputs: its first argument.
        targets: its second.
        options: the others, by name.
        value: what it gave.
    """

    function: Callable[..., Tensor]
    outputs: Tensor
    targets: Tensor
    options: dict[str, Any]
    value: Tensor

    def of(self, form: Form) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of the model's outputs and of targets by example and step, one for each position where there is."""
        options = {**self.options, "reduction": "none"}

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            losses = self.function(form.of_outputs(outputs), form.targets_for(targets), **options)
            return form.losses_from(losses, outputs)

        return loss


class LossCalls(TorchFunctionMode):
    """While this is entered, every call of a loss function that has a gradient is told to `tell`."""

    def __init__(self, tell: Callable[[CaughtLoss], None]) -> None:
        super().__init__()
        self._tell = tell
        self._names = {function: list(inspect.signature(function).parameters) for function in LOSS_FUNCTIONS}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and tell of it."""
        result = func(*args, **(kwargs or {}))
        if func in self._names and torch.is_grad_enabled() and isinstance(result, Tensor) and result.requires_grad:
            given = dict(zip(self._names[func], args, strict=False)) | (kwargs or {})
            outputs, targets = (given.pop(name) for name in self._names[func][:2])
            self._tell(CaughtLoss(func, outputs.detach(), targets.detach(), given, result.detach()))
        return result
