"""A small batch of a user's data, cut out along the right axes, and a loss that counts at chosen positions alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_map

from throughtime.errors import InputError
from throughtime.measurement.arguments import arguments, forward

__all__ = [
    "Axes",
    "Probe",
    "call",
    "first_tensor",
    "loss_gradient",
    "loss_value",
    "original_module",
]


@dataclass(frozen=True)
class Axes:
    """Where time and the sequences of a batch lie."""

    time: int
    batch: int


@dataclass(frozen=True)
class Probe:
    """What a model is called with.

    Attributes:
        inputs: its argument, a tuple of arguments, or a dict of named ones.
        targets: second argument of the loss, or None.
        axes: of the inputs.
        num_steps: T.
        num_sequences: B.
        alone: whether the model takes one sequence without an axis for the batch; B is 1, and `axes` hold for tensors
            with such an axis.
    """

    inputs: Any
    targets: Tensor | None
    axes: Axes
    num_steps: int
    num_sequences: int
    alone: bool = False

    @classmethod
    def of(cls, inputs: Any, targets: Tensor | None, axes: Axes, *, alone: bool = False) -> Probe:
        """All of a batch.

        Raises:
            InputError: if the inputs have no such axes.
        """
        x = first_tensor(inputs)
        if isinstance(x, PackedSequence):
            return cls(inputs, targets, axes, len(x.batch_sizes), int(x.batch_sizes[0]))
        if alone:
            return cls(inputs, targets, Axes(0, 1), x.size(0), 1, alone=True)
        if max(axes.time, axes.batch) >= x.dim():
            raise InputError(f"inputs of shape {tuple(x.shape)} have no axis {max(axes.time, axes.batch)}")
        return cls(inputs, targets, axes, x.size(axes.time), x.size(axes.batch))

    def axis_of_sequences(self, tensor: Tensor) -> int | None:
        """The axis along which a tensor has an entry for each sequence: that of the inputs, if it can be."""
        axes = (axis for axis in (self.axes.batch, 0, 1) if axis < tensor.dim())
        return next((axis for axis in axes if tensor.size(axis) == self.num_sequences), None)

    def chosen(self, rows: Tensor) -> Probe:
        """The same for some sequences alone.

        Raises:
            InputError: if the targets do not belong to the sequences along an axis of their own.
        """
        if rows.numel() == self.num_sequences or isinstance(first_tensor(self.inputs), PackedSequence):
            return self

        def cut(value: Any) -> Any:
            if isinstance(value, Tensor):
                for axis in (self.axes.batch, 0, 1):  # a state that is carried in has its layers first
                    if value.dim() > axis and value.size(axis) == self.num_sequences:
                        return value.index_select(axis, rows.to(value.device))
            return value

        targets = self.targets
        if targets is not None:
            if not isinstance(targets, Tensor):
                raise InputError(
                    f"targets of type {type(targets).__name__} cannot be cut to fewer sequences: hand over a tensor"
                )
            flat = targets.dim() > 0 and targets.size(0) == self.num_steps * self.num_sequences
            cut_targets: Tensor = cut(self.unflattened(targets)).flatten(0, 1) if flat else cut(targets)
            if cut_targets is targets:
                raise InputError(
                    f"targets of shape {tuple(targets.shape)} do not have {self.num_sequences} sequences along axis "
                    f"{self.axes.batch}, 0 or 1: hand over a batch of at most num_sequences, or targets with such an "
                    "axis"
                )
            targets = cut_targets
        return replace(self, inputs=_map(self.inputs, cut), targets=targets, num_sequences=rows.numel())

    def is_one_a_step(self, tensor: Tensor) -> bool:
        """Whether a tensor lies as the inputs do, with something of every step of every sequence."""
        if self.alone:
            return tensor.dim() > 0 and tensor.size(0) == self.num_steps
        if tensor.dim() <= max(self.axes.time, self.axes.batch):
            return False
        return (tensor.size(self.axes.time), tensor.size(self.axes.batch)) == (self.num_steps, self.num_sequences)

    def unflattened(self, flat: Tensor, axis: int = 0) -> Tensor:
        """Time and sequences, which lie in one axis of `flat` in the order of the inputs, as two axes."""
        sizes = (self.num_steps, self.num_sequences)
        return torch.unflatten(flat, axis, sizes if self.axes.time < self.axes.batch else sizes[::-1])

    def to(self, dtype: torch.dtype) -> Probe:
        """With floating-point tensors in `dtype`, copied."""

        def converted(value: Any) -> Any:
            if isinstance(value, PackedSequence):
                return value.to(dtype) if value.data.is_floating_point() else value
            if isinstance(value, Tensor):
                return value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)
            return value

        return replace(self, inputs=_map(self.inputs, converted), targets=converted(self.targets))


def first_tensor(inputs: Any) -> Any:
    """The first tensor of what a model is called with, or the first packed sequence.

    Raises:
        InputError: if there is none.
    """
    for value in arguments(inputs):
        if isinstance(value, Tensor | PackedSequence):
            return value
    raise InputError(f"the inputs hold no tensor, but {type(inputs).__name__}: hand over what the model is called with")


def call(model: nn.Module, inputs: Any) -> Tensor:
    """The model's first output tensor; a single number, such as the loss that some models return first, only if alone.

    Raises:
        InputError: if the model fails, or returns no floating-point tensor.
    """
    try:
        found = forward(model, inputs)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the model fails on these inputs ({type(error).__name__}: {error}): hand over what it is called with, "
            "several arguments as a tuple"
        ) from error
    if is_dataclass(found) and not isinstance(found, (type, dict)):
        found = vars(found)
    values = found.values() if isinstance(found, dict) else found if isinstance(found, (tuple, list)) else (found,)
    number: Tensor | None = None
    for value in values:
        if isinstance(value, PackedSequence) and not isinstance(found, PackedSequence):
            value = pad_packed_sequence(value)[0]
        if isinstance(value, Tensor) and value.is_floating_point():
            if value.dim():
                return value
            number = value if number is None else number
    if number is not None:
        return number
    if isinstance(found, PackedSequence):
        return pad_packed_sequence(found)[0]
    raise InputError(
        f"the model returns {type(found).__name__} without a floating-point tensor: nothing has a gradient"
    )


def loss_value(loss: Callable[..., Any], outputs: Tensor, targets: Tensor | None) -> Any:
    """What the user's loss gives, whatever it is.

    Raises:
        InputError: if it fails.
    """
    try:
        return loss(outputs) if targets is None else loss(outputs, targets)
    except Exception as error:
        raise InputError(
            f"the loss fails on outputs of shape {tuple(outputs.shape)} ({type(error).__name__}: {error}): it is "
            "called as loss(outputs, targets) with the model's first output"
        ) from error


def loss_gradient(loss: Callable[..., Any] | None, outputs: Tensor, targets: Tensor | None, seed: int) -> Tensor:
    """D loss / d outputs; of a random projection of the outputs where there is no loss.

    Raises:
        InputError: if the loss fails, or is not finite.
    """
    if loss is None:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs.device)
    leaf = outputs.detach().requires_grad_()
    value = loss_value(loss, leaf, targets)
    if not isinstance(value, Tensor) or not value.requires_grad:
        return torch.zeros_like(outputs)
    if not bool(value.detach().isfinite().all()):
        raise InputError("the loss is not finite on these inputs: there is no gradient to measure")
    (gradient,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    return torch.zeros_like(outputs) if gradient is None else gradient


def original_module(model: nn.Module) -> nn.Module:
    """The module inside what `torch.compile` and data parallelism put around one."""
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return original_module(model.module)
    inner = getattr(model, "_orig_mod", None)
    return original_module(inner) if isinstance(inner, nn.Module) else model


def _map(inputs: Any, change: Callable[[Any], Any]) -> Any:
    """Every tensor, also those of a state within a tuple, changed."""
    return tree_map(change, inputs, is_leaf=lambda value: isinstance(value, PackedSequence))
