"""The copy of a model that may be changed: it shares nothing with the model."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from throughtime.errors import InputError

__all__ = ["copied", "copy_memo", "with_history"]


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
