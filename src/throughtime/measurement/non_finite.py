"""Where the first number that is not finite comes from: a model runs once more, and each module is looked at."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

__all__ = ["bad_activation", "bad_parameter"]


def bad_parameter(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    for name, tensor in named:
        if tensor is not None and tensor.is_floating_point() and not bool(_values(tensor).isfinite().all()):
            return name
    return None


def bad_activation(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, str] | None:
    """Run a copy of `model` and find where NaN or infinity comes up first.

    Minus infinity alone is how masks are written, and does not count.

    Returns:
        ("input", name of the model) or ("activation", name of the module whose own code made it); None where all of
        it is finite.
    """
    if _bad((args, kwargs)):
        return "input", type(model).__name__
    copied = copy.deepcopy(model)
    running: list[str] = []
    found: list[str] = []

    def enter(name: str, given: Any) -> None:
        # What a module is handed was made by the code of the one that calls it.
        if not found and running and _bad(given):
            found.append(running[-1])
        running.append(name)

    def leave(result: Any) -> None:
        name = running.pop()
        if not found and _bad(result):
            found.append(name)

    for name, module in copied.named_modules():
        shown = name or type(model).__name__
        module.register_forward_pre_hook(
            lambda _, args, kwargs, shown=shown: enter(shown, (args, kwargs)), with_kwargs=True
        )
        module.register_forward_hook(lambda *given: leave(given[-1]))
    with torch.no_grad():
        copied(*args, **kwargs)
    return ("activation", found[0]) if found else None


def _bad(value: Any) -> bool:
    leaves = tree_leaves(value, is_leaf=lambda leaf: isinstance(leaf, PackedSequence))
    tensors = [leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in leaves]
    return any(
        bool((tensor.isnan() | tensor.isposinf()).any())
        for tensor in tensors
        if isinstance(tensor, Tensor) and tensor.is_floating_point()
    )


def _values(tensor: Tensor) -> Tensor:
    found = tensor.detach()
    return found.coalesce().values() if found.is_sparse else found
