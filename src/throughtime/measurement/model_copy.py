"""The copy of a model that may be changed: it shares nothing with the model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError

__all__ = ["copied", "copy_memo", "in_precision", "with_history"]


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; what still hangs on its graph is copied without it.

    Raises:
        InputError: if it cannot be copied.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> model.state = model.weight * 2
        >>> copied(model).state.grad_fn is None
        True
    """
    try:
        return copy.deepcopy(model, copy_memo(model))
    except Exception as error:
        raise InputError(f"the model cannot be copied ({type(error).__name__}: {error})") from error


def copy_memo(model: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` has to be told: it refuses tensors that are no leaves."""
    return {id(tensor): tensor.detach().clone() for tensor in with_history(model)}


def in_precision(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model itself in `dtype`, and with it the states that it keeps as attributes, which `nn.Module.to` leaves out.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> model.state = (torch.zeros(1), None)
        >>> in_precision(model, torch.float64).state[0].dtype
        torch.float64
    """
    model.to(dtype)
    for module in model.modules():
        vars(module).update({name: _converted(value, dtype) for name, value in vars(module).items()})
    return model


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """In `dtype`; the very same where it is no tensor of another precision, and holds none."""
    if isinstance(value, Tensor):
        keep = isinstance(value, nn.Parameter) or not value.is_floating_point() or value.dtype == dtype
        return value if keep else value.detach().to(dtype)
    if type(value) in (tuple, list):
        parts = [_converted(part, dtype) for part in value]
        same = all(one is other for one, other in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    return value


def with_history(model: nn.Module) -> list[Tensor]:
    """Tensors with a history that modules keep as attributes or buffers.

    They are states that are carried from call to call, or were computed from weights by a hook (torch's older weight
    normalisation).
    """
    found: list[Tensor] = []

    def look(value: Any) -> None:
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                found.append(value)
        elif isinstance(value, (tuple, list)):
            for part in value:
                look(part)
        elif isinstance(value, dict):
            for part in value.values():
                look(part)

    for module in model.modules():
        own = vars(module)
        look({name: value for name, value in own.items() if name not in ("_modules", "_parameters")})
    return found
