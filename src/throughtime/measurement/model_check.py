"""Which models cannot be measured, or watched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten

from throughtime.errors import InputError
from throughtime.measurement.probe import original_module

__all__ = ["check_watchable", "checked_model", "out_of_memory"]

_OUT_OF_MEMORY = ("DefaultCPUAllocator", "bad_alloc")
"""What the errors of torch's allocator, and of the C++ below it, hold, whatever else they say."""


def checked_model(model: nn.Module, inputs: Any) -> nn.Module:
    """The module inside what `torch.compile` and data parallelism put around one.

    Raises:
        InputError: if it is no module, has weights that are not finite, or lies on the meta device or on several.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is of type {type(model).__name__}: expected a torch.nn.Module")
    inner = original_module(model)
    _check_devices(inner, inputs)
    for name, weight in inner.named_parameters():
        if weight.is_floating_point() and not bool(weight.detach().isfinite().all()):
            raise InputError(
                f"the model has weights that are not finite ({name}), and so nothing to measure: load an earlier one"
            )
    return inner


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that there is not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(each in str(error) for each in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


def check_watchable(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Whether the optimizers train the model.

    Raises:
        InputError: if it has no parameters, or an optimizer holds none of them.
    """
    parameters = list(model.parameters())
    if not parameters:
        raise InputError(f"{type(model).__name__} has no parameters: there is no training to watch")
    if not optimizers:
        raise InputError("no optimizer was given: expected one, or a list of them")
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"expected a torch.optim.Optimizer, or a list of them, not {type(optimizer).__name__}")
        theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in theirs for p in parameters):
            raise InputError(
                f"{type(optimizer).__name__} holds none of the parameters of {type(model).__name__}: make it from "
                "model.parameters() of this very model"
            )


def _check_devices(model: nn.Module, inputs: Any) -> None:
    """By what has a gradient alone: lengths, say, belong on the CPU whatever the model lies on."""
    held = [*chain(model.named_parameters(), model.named_buffers())]
    held += [("the inputs", leaf) for leaf in tree_flatten(inputs)[0] if isinstance(leaf, Tensor)]
    devices: dict[str, str] = {}
    for name, tensor in held:
        if tensor.is_floating_point():
            devices.setdefault(str(tensor.device), name)
    if "meta" in devices:
        raise InputError(f"on the meta device there are no numbers ({devices['meta']}): load the weights first")
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InputError(f"model and inputs lie on several devices ({places}): move all to one with .to(device)")
