"""What a script does between its model and its loss, told from the numbers: a last step, axes joined, a softmax."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from throughtime.diagnosis.losses import IGNORED

__all__ = ["LOSS_FUNCTIONS", "PER_STEP", "CaughtLoss", "Form", "LossCalls", "form_between"]

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


PER_STEP = Form(lambda y: y.flatten(0, 1), _apart, lambda targets: targets.flatten(0, 1), _apart)
"""Of outputs by step and example, or by example and step, whose positions a loss takes as those of one batch."""


def _last(y: Tensor, axis: int) -> Tensor:
    """The last step, or number; of a single step nobody can know whether it was taken or joined.

    Raises:
        IndexError: of a single one.
    """
    if y.dim() > 2 and y.size(axis) == 1:
        raise IndexError("a single step")
    return y.select(axis, -1)


_FORMS = (
    Form(lambda y: y),
    Form(lambda y: _last(y, 1)),
    Form(lambda y: _last(y, 0)),
    PER_STEP,
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


@dataclass(frozen=True)
class _Cut:
    """Some first or last steps are left out: those that cannot be told, while a state warms up."""

    axis: int
    kept: slice
    joined: bool
    turned: bool

    def of(self, y: Tensor) -> Tensor:
        """Outputs, or targets by example and step, as the loss takes them."""
        part = y[self.kept] if self.axis == 0 else y[:, self.kept]
        part = part.transpose(0, 1) if self.turned else part
        return part.flatten(0, 1) if self.joined else part

    def whole(self, part: Tensor, outputs: Tensor, fill: float) -> Tensor:
        """The way back, with `fill` where steps were left out."""
        places = torch.arange(outputs.shape[:2].numel(), device=part.device).view(outputs.shape[:2])
        rest = part.shape[1:] if self.joined else part.shape[2:]
        full = part.new_full((places.numel(), *rest), fill)
        full = full.index_copy(0, self.of(places).flatten(), part.reshape(-1, *rest))
        return full.view(*outputs.shape[:2], *rest)

    def form(self) -> Form:
        """What was left out counts as ignored, or as a loss of zero."""
        return Form(
            self.of,
            lambda targets, outputs: self.whole(targets, outputs, 0.0 if targets.is_floating_point() else IGNORED),
            self.of,
            lambda losses, outputs: self.whole(losses, outputs, 0.0),
        )


def _cuts(outputs: Tensor, given: Tensor, targets: Tensor | None) -> Iterator[Form]:
    """The cuts that the sizes allow; of outputs without features, where each of them has a target."""
    each = targets is not None and targets.shape == given.shape
    if each and outputs.dim() == 3 and outputs.size(2) == 1 and given.dim() == 2:
        yield from (_squeezed(form) for form in _cuts(outputs.squeeze(2), given, targets))
    for axis in (0, 1) if given.dim() > 1 and outputs.dim() > (1 if each else 2) else ():
        steps, others = outputs.size(axis), outputs.size(1 - axis)
        joined = given.dim() == outputs.dim() - 1
        num_kept = given.size(0) // others if joined else given.size(axis)
        if 1 < num_kept < steps:  # of a single step its place would be a guess
            left_out = steps - num_kept
            for kept in (slice(left_out, None), slice(None, -left_out)):
                yield from (_Cut(axis, kept, joined, turned).form() for turned in (False, True) if joined or not turned)


def _squeezed(form: Form) -> Form:
    """The same of outputs of one feature, whose axis the script leaves out; targets and losses have none."""
    return Form(
        lambda y: form.of_outputs(y.squeeze(2)),
        lambda targets, outputs: form.targets_from(targets, outputs.squeeze(2)),
        form.targets_for,
        lambda losses, outputs: form.losses_from(losses, outputs.squeeze(2)),
    )


def _of_log_probabilities(form: Form) -> Form:
    """The same, where the script takes the logarithm of a softmax first."""
    return replace(form, of_outputs=lambda y: form.of_outputs(y.log_softmax(-1)))


def form_between(outputs: Tensor, given: Tensor, targets: Tensor | None = None) -> Form | None:
    """The first form in which a model's output is what the loss was given; None where none fits.

    Args:
        outputs: of the model.
        given: to the loss.
        targets: that it was given beside them.

    Example:
        >>> import torch
        >>> outputs = torch.randn(4, 7, 3)
        >>> form = form_between(outputs, outputs[:, -1])
        >>> form.of_outputs(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 3])
    """
    forms: list[Form] = [*_FORMS, *_cuts(outputs, given, targets)]
    if outputs.dim() and outputs.is_floating_point():
        forms += [_of_log_probabilities(form) for form in forms]
    for form in forms:
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
        function: one of `LOSS_FUNCTIONS`, or what the script itself makes of these; that may be one number in any case.
        outputs: its first argument.
        targets: its second.
        options: the others, by name.
        value: what it gave.
        source: its first argument as it came, with its graph.
    """

    function: Callable[..., Tensor]
    outputs: Tensor
    targets: Tensor
    options: dict[str, Any]
    value: Tensor
    source: Tensor

    def of(self, form: Form) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of the model's outputs and of targets by example and step, one for each position where there is."""
        options = {**self.options, "reduction": "none"}

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            losses = self.function(form.of_outputs(outputs), form.targets_for(targets), **options)
            return form.losses_from(losses, outputs) if losses.dim() else losses

        return loss


class LossCalls(TorchFunctionMode):
    """While this is entered, every call of a loss function that has a gradient is told to `tell`.

    Args:
        tell: of a call of one of `LOSS_FUNCTIONS`.
        tell_backward: of a tensor whose backward pass is about to begin.
        tell_evaluation: of such a call where gradients are off.
    """

    def __init__(
        self,
        tell: Callable[[CaughtLoss], None],
        tell_backward: Callable[[Tensor], None] | None = None,
        tell_evaluation: Callable[[CaughtLoss], None] | None = None,
    ) -> None:
        super().__init__()
        self._tell, self._tell_backward, self._tell_evaluation = tell, tell_backward, tell_evaluation
        self._names = {function: list(inspect.signature(function).parameters) for function in LOSS_FUNCTIONS}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and tell of it."""
        if func is Tensor.backward and self._tell_backward is not None:
            self._tell_backward(args[0])
        result = func(*args, **(kwargs or {}))
        if func not in self._names or not isinstance(result, Tensor):
            return result
        tell = self._tell if result.requires_grad else self._tell_evaluation
        if torch.is_grad_enabled() == result.requires_grad and tell is not None:
            given = dict(zip(self._names[func], args, strict=False)) | (kwargs or {})
            outputs, targets = (given.pop(name) for name in self._names[func][:2])
            tell(CaughtLoss(func, outputs.detach(), targets.detach(), given, result.detach(), outputs))
        return result
