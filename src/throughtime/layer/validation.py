"""Checks of what a user hands to a layer: each error says what was expected, what came and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.errors import InputError

__all__ = ["check_input", "check_lengths", "check_reset", "check_state"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_input(x: Tensor, legend: str, features: int, parameter: Tensor | None) -> None:
    """Refuse an input that is not of the shape named by `legend`, or differs from the parameters in dtype or device."""
    if not isinstance(x, Tensor):
        raise InputError(f"x must be a tensor {legend}, not {_kind(x)}")
    num_axes = legend.count(",") + 1
    if x.dim() != num_axes or x.size(-1) != features:
        lost = num_axes - x.dim() == 1
        advice = "; add the batch axis, for one sequence of size 1" if lost else ""
        raise InputError(f"x must be {legend} with I = {features}, not of shape {tuple(x.shape)}{advice}")
    if parameter is None:
        return
    if x.device != parameter.device:
        raise InputError(f"x is on {x.device} and the layer on {parameter.device}: move one with .to(device)")
    if x.dtype != parameter.dtype and not torch.is_autocast_enabled(x.device.type):
        raise InputError(f"x is {x.dtype} and the layer {parameter.dtype}: convert one with .to(dtype)")


def check_state(
    state: Tensor | Sequence[Tensor], names: tuple[str, ...], like: tuple[Tensor, ...], num_cells: int, batch: int
) -> tuple[Tensor, ...]:
    """The parts of a state, each (num_cells, B, ...).

    Args:
        state: what the user passed in.
        names: of the parts.
        like: one cell's initial state for a batch of one, which has the right shapes, dtype and device.
        num_cells: layers times directions.
        batch: B.
    """
    parts = tuple(state) if isinstance(state, (tuple, list)) else (state,)
    if len(parts) != len(names) or not all(isinstance(part, Tensor) for part in parts):
        wanted = names[0] if len(names) == 1 else f"({', '.join(names)})"
        raise InputError(f"state must be {wanted}, {len(names)} tensor(s), not {_kind(state)}")
    for name, part, example in zip(names, parts, like, strict=True):
        shape = (num_cells, batch, *example.shape[1:])
        if part.shape != shape:
            raise InputError(
                f"state {name} must be (layers * directions, B, ...) = {shape}, not of shape {tuple(part.shape)}"
            )
        if part.device != example.device:
            raise InputError(f"state {name} is on {part.device} and x on {example.device}: move one with .to(device)")
        if part.dtype != example.dtype and not torch.is_autocast_enabled(part.device.type):
            raise InputError(f"state {name} is {part.dtype} and must be {example.dtype}: convert it with .to(dtype)")
    return parts


def check_lengths(lengths: Tensor | Sequence[int], num_steps: int, batch: int, device: torch.device) -> Tensor:
    """Lengths as (B,) int64 on `device`, each from 0 to T."""
    try:
        given = torch.as_tensor(lengths, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"lengths must be integers, one for each of {batch} sequences, not {_kind(lengths)}") from error
    if not isinstance(lengths, Tensor) and not given.numel():
        given = given.to(torch.int64)  # an empty list has no dtype of its own
    if given.dtype not in _INTEGERS:
        raise InputError(f"lengths must be integers, not {given.dtype}")
    if given.shape != (batch,):
        raise InputError(
            f"lengths must be one integer for each of {batch} sequences, not of shape {tuple(given.shape)}"
        )
    if batch and not 0 <= int(given.min()) <= int(given.max()) <= num_steps:
        raise InputError(
            f"lengths must lie between 0 and T = {num_steps}, not between {int(given.min())} and {int(given.max())}"
        )
    return given.to(device, torch.int64)


def check_reset(reset: Tensor, legend: str, shape: tuple[int, int], device: torch.device) -> None:
    """Refuse a reset that is not bool, not of `shape` or not on `device`."""
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool:
        raise InputError(f"reset must be a bool tensor {legend}, not {_kind(reset)}")
    if reset.shape != shape:
        raise InputError(f"reset must be {legend} = {shape}, not of shape {tuple(reset.shape)}")
    if reset.device != device:
        raise InputError(f"reset is on {reset.device} and x on {device}: move one with .to(device)")


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
