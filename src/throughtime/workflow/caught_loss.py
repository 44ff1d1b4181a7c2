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
    """How outputs come into the form in which a loss takes them, and targets back into that of the outputs.

    Attributes:
        of_outputs: the model's output -> what the loss is called with.
        of_targets: (targets as the loss takes them, the model's output) -> targets by example and step.
    """

    of_outputs: Callable[[Tensor], Tensor]
    of_targets: Callable[[Tensor, Tensor], Tensor]


def _as_they_are(targets: Tensor, _: Tensor) -> Tensor:
    return targets


def _unflattened(targets: Tensor, outputs: Tensor) -> Tensor:
    return targets.reshape(*outputs.shape[:2], *targets.shape[1:])


def _unflattened_turned(targets: Tensor, outputs: Tensor) -> Tensor:
    return targets.reshape(outputs.size(1), outputs.size(0), *targets.shape[1:]).transpose(0, 1)


_FORMS = (
    Form(lambda y: y, _as_they_are),
    Form(lambda y: y[:, -1], _as_they_are),
    Form(lambda y: y[-1], _as_they_are),
    Form(lambda y: y.flatten(0, 1), _unflattened),
    Form(lambda y: y.transpose(0, 1).flatten(0, 1), _unflattened_turned),
    Form(lambda y: y.transpose(1, 2), _as_they_are),
    Form(lambda y: y.permute(1, 2, 0), lambda targets, _: targets.transpose(0, 1)),
    Form(lambda y: y.squeeze(-1), _as_they_are),
    Form(lambda y: y[:, -1].squeeze(-1), _as_they_are),
    Form(lambda y: y[-1].squeeze(-1), _as_they_are),
    Form(lambda y: y.flatten(), lambda targets, outputs: targets.reshape(outputs.shape)),
    Form(lambda y: y.mean(1), _as_they_are),
    Form(lambda y: y.mean(0), _as_they_are),
)


def form_between(outputs: Tensor, given: Tensor) -> Form | None:
    """The first form in which a model's output is what the loss was given; None where none fits.

    Example:
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
        if formed.shape == given.shape and torch.equal(formed.detach(), given.detach()):
            return form
    return None


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
        flat = self.targets.shape

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            given = form.of_outputs(outputs)
            like = targets if len(flat) == targets.dim() else targets.flatten(0, 1)
            if form.of_targets is _unflattened_turned:
                like = targets.transpose(0, 1).flatten(0, 1)
            value = self.function(given, like, **options)
            if value.dim() and value.size(0) == outputs.size(0) * outputs.size(1) and value.size(0) != targets.size(0):
                turned = form.of_targets is _unflattened_turned
                shape = (outputs.size(1), outputs.size(0)) if turned else tuple(outputs.shape[:2])
                value = value.view(*shape, *value.shape[1:])
                return value.transpose(0, 1) if turned else value
            return value

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
