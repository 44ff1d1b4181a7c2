"""A user's loss, as one number or as one for each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.errors import InputError

__all__ = ["IGNORED", "constant_loss", "first_output", "forward", "loss_of_first_output", "mean_loss"]

IGNORED = -100
"""The target that torch's losses leave out."""

_ITERATIONS = 60

Loss = Callable[..., Any]


def forward(model: nn.Module, inputs: Any) -> Any:
    """What the model returns, whatever it is."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)) and not isinstance(inputs, PackedSequence):
        return model(*inputs)
    return model(inputs)


def first_output(found: Any) -> Tensor:
    """The first floating-point tensor of what a model returns: of (output, state), the output.

    Raises:
        InputError: if there is none.
    """
    values = found.values() if isinstance(found, dict) else found if isinstance(found, (tuple, list)) else (found,)
    if isinstance(found, PackedSequence):
        return pad_packed_sequence(found)[0]
    for value in values:
        if isinstance(value, PackedSequence):
            return pad_packed_sequence(value)[0]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise InputError(f"the model returns {type(found).__name__} without a floating-point tensor: expected one")


def loss_of_first_output(loss: Loss, found: Any, targets: Any) -> Loss:
    """The user's loss as one of the first output: as it is, or, where it takes all that the model returns, around it.

    Args:
        loss: (outputs, targets) -> a loss.
        found: what the model returned on some batch, whatever it is.
        targets: of that batch.

    Raises:
        InputError: if it takes neither.
    """
    outputs = first_output(found)
    try:
        mean_loss(loss, outputs, targets)
        return loss
    except InputError as error:
        if found is outputs:
            raise
        problem = error

    def around(outputs: Tensor, targets: Any) -> Any:
        return loss(_with_output(found, outputs), targets)

    try:
        mean_loss(around, outputs, targets)
        return around
    except InputError:
        raise problem from None


def _with_output(found: Any, outputs: Tensor) -> Any:
    """What a model returned, with its first output replaced."""
    old = first_output(found)
    if isinstance(found, dict):
        return {name: outputs if value is old else value for name, value in found.items()}
    return tuple(outputs if value is old else value for value in found)


def mean_loss(loss: Loss, outputs: Tensor, targets: Any) -> Tensor:
    """The loss as one number: its mean, over the positions whose target is not ignored.

    Raises:
        InputError: if the loss fails or gives no tensor.
    """
    try:
        value = loss(outputs) if targets is None else loss(outputs, targets)
    except Exception as error:
        raise InputError(
            f"the loss fails on outputs of shape {tuple(outputs.shape)} ({type(error).__name__}: {error}): it is "
            "called as loss(outputs, targets) with the model's first output"
        ) from error
    if not isinstance(value, Tensor):
        raise InputError(f"the loss gives {type(value).__name__}: expected a tensor")
    if value.dim() and isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dim():
        counted = int((targets != IGNORED).sum())
        if value.numel() == targets.numel() and counted:
            return value.sum() / counted
    return value.mean()


def constant_loss(loss: Loss, outputs: Tensor, targets: Any, sizes: tuple[int, int]) -> float:
    """The least loss that an output which is the same for every example and position can have: chance level.

    Found by gradient descent (L-BFGS) from the mean of the outputs, whatever the loss is.

    Args:
        loss: (outputs, targets) -> a loss.
        outputs: of the model; axes as long as one of `sizes` are positions and examples, the others features.
        targets: of the batch.
        sizes: T and B.

    Returns:
        The loss in the loss's own unit; NaN where it cannot be had.
    """
    left = list(sizes)
    positions = []
    for axis, size in enumerate(outputs.shape):
        if size in left and (axis < outputs.dim() - 1 or outputs.shape == getattr(targets, "shape", None)):
            left.remove(size)
            positions.append(axis)
    mean = outputs.detach().double().mean(positions, keepdim=True) if positions else outputs.detach().double()
    constant = mean.nan_to_num(0.0, 0.0, 0.0).requires_grad_()
    moved = targets.double() if isinstance(targets, Tensor) and targets.is_floating_point() else targets
    optimizer = torch.optim.LBFGS([constant], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = mean_loss(loss, constant.expand(outputs.shape), moved)
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    try:
        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[arg-type]
        with torch.no_grad():
            return float(mean_loss(loss, constant.expand(outputs.shape), moved))
    except (InputError, RuntimeError):
        return float("nan")
