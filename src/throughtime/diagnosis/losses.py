"""A user's loss, as one number or as one for each position."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.errors import InputError

__all__ = ["IGNORED", "WholeLoss", "averaged", "constant_loss", "first_output", "mean_loss", "taking_first_output"]

IGNORED = -100
"""The target that torch's losses leave out."""

_ITERATIONS = 60
_NORMALISED = 1e-3
"""Probabilities that come from a softmax add up to 1 to 1e-6 in float32, and to this in half precision."""

Loss = Callable[..., Any]


def first_output(found: Any) -> Tensor:
    """The first floating-point tensor of what a model returns: of (output, state), the output.

    Raises:
        InputError: if there is none.
    """
    if isinstance(found, PackedSequence):
        return pad_packed_sequence(found)[0]
    for value in _parts(found):
        if isinstance(value, PackedSequence):
            return pad_packed_sequence(value)[0]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise InputError(f"the model returns {type(found).__name__} without a floating-point tensor: expected one")


@dataclass(frozen=True)
class WholeLoss:
    """A loss that takes all that a model returns, made to take its first output as well.

    Attributes:
        loss: (all that the model returns, targets) -> a loss.
        found: what the model returned once; the first output is put in its place in it.
    """

    loss: Loss
    found: Any

    def __call__(self, outputs: Any, *targets: Any) -> Any:
        """Of a tensor, which is the first output, or of all that the model returns."""
        return self.loss(_with_first(self.found, outputs) if isinstance(outputs, Tensor) else outputs, *targets)


def taking_first_output(loss: Loss, found: Any, targets: Any) -> Loss:
    """`loss`, or where it wants all that the model returns (as in `output, state = outputs`), a `WholeLoss`.

    Args:
        loss: the user's.
        found: what the model returns.
        targets: of the batch.
    """
    if isinstance(found, Tensor | PackedSequence) or isinstance(loss, WholeLoss):
        return loss
    given = () if targets is None else (targets,)
    with torch.no_grad():
        if _works(loss, first_output(found), *given) or not _works(loss, found, *given):
            return loss
    return WholeLoss(loss, found)


def mean_loss(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """The loss as one number: its mean, over the positions whose target is not ignored.

    Args:
        loss: (outputs, targets) -> losses of positions or sequences, or a scalar.
        outputs: the model's first output, or all that it returns.
        targets: of the batch.

    Raises:
        InputError: if the loss fails or gives no tensor.
    """
    taken = outputs if isinstance(loss, WholeLoss) else first_output(outputs)
    try:
        value = loss(taken) if targets is None else loss(taken, targets)
    except Exception as error:
        shape = tuple(first_output(outputs).shape)
        raise InputError(
            f"the loss fails on outputs of shape {shape} ({type(error).__name__}: {error}): it is called as "
            "loss(outputs, targets) with the model's first output"
        ) from error
    if not isinstance(value, Tensor):
        raise InputError(f"the loss gives {type(value).__name__}: expected a tensor")
    return averaged(value, targets)


def averaged(value: Tensor, targets: Any) -> Tensor:
    """Losses of positions as one number: their mean over those whose target is not ignored.

    Args:
        value: what a loss gave; losses of ignored positions are zero in it, as torch's are.
        targets: that it was given.

    Example:
        >>> losses, targets = torch.tensor([0.0, 3.0, 0.0]), torch.tensor([-100, 1, -100])
        >>> float(averaged(losses, targets))
        3.0
    """
    if value.dim() and isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dim():
        counted = int((targets != IGNORED).sum())
        if value.numel() == targets.numel() and counted:
            return value.sum() / counted
    return value.mean()


def constant_loss(loss: Loss, outputs: Tensor, targets: Any, sizes: tuple[int, int]) -> float:
    """The least loss that an output which is the same for every example and position can have: chance level.

    Found by gradient descent (L-BFGS) from the mean of the outputs, whatever the loss is. Where the outputs are
    probabilities or their logarithms the constant is one too: else a likelihood has no floor.

    Args:
        loss: (outputs, targets) -> a loss.
        outputs: of the model; axes as long as one of `sizes`, or as both together, are positions and examples, the
            others features.
        targets: of the batch.
        sizes: T and B.

    Returns:
        The loss in the loss's own unit; NaN where it cannot be had.
    """
    left = list(sizes)
    positions = []
    shape, of_targets = outputs.shape, getattr(targets, "shape", None)
    classes_second = shape[:-1] != of_targets and shape[:1] + shape[2:] == of_targets
    for axis, size in enumerate(shape):
        if size in left and (axis < outputs.dim() - 1 or shape == of_targets or classes_second):
            left.remove(size)
            positions.append(axis)
    if not positions and shape[:1] == (math.prod(sizes),) and (outputs.dim() > 1 or shape == of_targets):
        positions = [0]  # both in one axis
    whole = outputs.detach().double()
    mean = (whole.mean(positions, keepdim=True) if positions else whole).nan_to_num(0.0, 0.0, 0.0)
    normalised = _normalised(whole, positions)
    if normalised is not None:
        return _least(loss, normalised.free(mean), normalised.bound, whole.shape, targets)
    found = _least(loss, mean, lambda constant: constant, whole.shape, targets)
    if math.isfinite(found) or not bool(((whole >= 0) & (whole <= 1)).all()):
        return found
    # A loss that is there between 0 and 1 alone is one of probabilities that need not add up.
    return _least(loss, torch.logit(mean, eps=1e-6), torch.sigmoid, whole.shape, targets)


@dataclass(frozen=True)
class _Normalised:
    """Outputs that add up to 1 along an axis, or whose exponentials do."""

    axis: int
    logarithms: bool

    def free(self, mean: Tensor) -> Tensor:
        """Numbers that nothing binds and from which `bound` makes something like the mean."""
        return mean if self.logarithms else mean.clamp(min=1e-9).log()

    def bound(self, free: Tensor) -> Tensor:
        """Probabilities, or their logarithms."""
        return free.log_softmax(self.axis) if self.logarithms else free.softmax(self.axis)


def _normalised(outputs: Tensor, positions: list[int]) -> _Normalised | None:
    """The axis of features along which outputs are probabilities or their logarithms; None where there is none."""
    for axis in reversed([axis for axis in range(outputs.dim()) if axis not in positions]):
        if outputs.size(axis) < 2:  # a single one is 1 whatever it says
            continue
        for logarithms in (True, False):
            if not bool((outputs <= 0).all() if logarithms else (outputs >= 0).all()):
                continue
            total = outputs.exp().sum(axis) if logarithms else outputs.sum(axis)
            if bool(((total - 1).abs() < _NORMALISED).all()):
                return _Normalised(axis, logarithms)
    return None


def _least(loss: Loss, start: Tensor, bound: Callable[[Tensor], Tensor], shape: torch.Size, targets: Any) -> float:
    """The least loss of a constant output that is made from free numbers; NaN where it cannot be had."""
    constant = start.clone().requires_grad_()
    moved = targets.double() if isinstance(targets, Tensor) and targets.is_floating_point() else targets
    optimizer = torch.optim.LBFGS([constant], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = mean_loss(loss, bound(constant).expand(shape), moved)
        if value.requires_grad:
            # Not backward(): a loss may hold weights of the user's, whose gradients are no business of ours.
            (constant.grad,) = torch.autograd.grad(value, constant, allow_unused=True)
        return value.detach()

    try:
        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch has no annotation
        with torch.no_grad():
            return float(mean_loss(loss, bound(constant).expand(shape), moved))
    except (InputError, RuntimeError, IndexError):  # the last from the line search, of a loss that is NaN
        return math.nan


def _parts(found: Any) -> tuple[Any, ...]:
    if isinstance(found, dict):
        return tuple(found.values())
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def _works(loss: Loss, *arguments: Any) -> bool:
    """Whether it gives a tensor, without a warning: torch warns where shapes do not belong together."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return isinstance(loss(*arguments), Tensor)
    except Exception:
        return False


def _with_first(found: Any, outputs: Tensor) -> Any:
    """The same as a model returned, with another first output."""
    if isinstance(found, dict):
        names = [name for name, value in found.items() if _is_output(value)]
        return {**found, names[0]: outputs}
    parts = list(found)
    parts[next(at for at, value in enumerate(parts) if _is_output(value))] = outputs
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return type(found)(*parts)
    return type(found)(parts)


def _is_output(value: Any) -> bool:
    return isinstance(value, PackedSequence) or (isinstance(value, Tensor) and value.is_floating_point())
