"""What a diagnosis cannot begin without: numbers to look at, weights with values, lengths that fit."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from throughtime.diagnosis.case import Case
from throughtime.errors import InputError
from throughtime.measurement.arguments import tensors_among

__all__ = ["refuse_unusable"]


def refuse_unusable(case: Case) -> None:
    """Say in a line what would make every rule fail in words of its own.

    Raises:
        InputError: if the inputs are empty, a weight has no value, or the lengths fit no input.
    """
    tensors = tensors_among(case.inputs)
    for x in tensors:
        if x.numel() == 0:
            raise InputError(
                f"an input of shape {tuple(x.shape)} holds no numbers: hand over a batch that has sequences"
            )
    for name, value in itertools.chain(case.model.named_parameters(), case.model.named_buffers()):
        if value.device.type == "meta":
            raise InputError(f"{name} is on the device meta, where nothing has a value: load the model's weights first")
    if case.lengths is not None:
        _refuse_lengths(case, [x for x in tensors if x.dim() > 1])


def _refuse_lengths(case: Case, tensors: list[Tensor]) -> None:
    try:
        lengths = torch.as_tensor(case.lengths)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"lengths must be numbers, one for each sequence, not {type(case.lengths).__name__}"
        ) from error
    if lengths.dim() != 1 or lengths.is_floating_point() or not lengths.numel():
        raise InputError(f"lengths must be whole numbers (B,), not of shape {tuple(lengths.shape)} and {lengths.dtype}")
    axes = (0, 1) if case.time_dim is None else (case.time_dim,)
    fits = [
        x.size(1 - time) == lengths.numel() and int(lengths.min()) >= 1 and int(lengths.max()) <= x.size(time)
        for x in tensors
        for time in axes
    ]
    if fits and not any(fits):
        raise InputError(
            f"{lengths.numel()} lengths from {int(lengths.min())} to {int(lengths.max())} do not fit inputs of shape "
            f"{tuple(tensors[0].shape)}: expected one for each sequence, from 1 to the number of steps"
        )
