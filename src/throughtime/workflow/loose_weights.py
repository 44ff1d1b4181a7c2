"""Weights that a script has in no module: tensors that it has made, and computes with itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.workflow.step_tape import Call

__all__ = ["LooseWeights", "names_in_scope", "with_embeddings"]


_PLAIN = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False}
_NOT_A_SCRIPT = ("throughtime", "torch", "runpy")


class LooseWeights(nn.Module):
    """They as parameters; nothing to call.

    Args:
        weights: leaves of the graph. They become parameters, and stay the tensors that the script and its optimizers
            hold.
        names: of these.
    """

    def __init__(self, weights: Sequence[Tensor], names: Mapping[Tensor, str]) -> None:
        super().__init__()
        for weight in weights:
            if type(weight) is Tensor:
                weight.__class__ = nn.Parameter  # the same tensor: its optimizer's state and its hooks stay
            if not isinstance(weight, nn.Parameter):
                continue  # of a class of its own
            name = names[weight].replace(".", "_")
            taken = name in self._parameters or hasattr(self, name)
            self.register_parameter(f"{name}_{len(self._parameters)}" if taken else name, weight)

    @property
    def held(self) -> dict[str, nn.Parameter]:
        """All of them, by name."""
        return dict(self.named_parameters())


def with_embeddings(calls: Sequence[Call], weights: Mapping[str, nn.Parameter]) -> list[Call]:
    """Calls of a step, where rows of a weight are looked up by ids the call of an embedding: its output has a gradient.

    Args:
        calls: in their order.
        weights: of the script.
    """
    own = {id(weight): _embedding(weight) for weight in weights.values() if weight.dim() == 2}
    found = []
    for call in calls:
        table, ids = _looked_up(call)
        embedding = own.get(id(table)) if isinstance(ids, Tensor) and ids.dtype in (torch.int64, torch.int32) else None
        found.append(call if embedding is None else Call(embedding, (ids,), {}, call.result))
    return found


def _looked_up(call: Call) -> tuple[Any, Any]:
    """(table, ids) of a call that may be such a look-up."""
    given = call.args
    if call.function is Tensor.__getitem__ and len(given) == 2:
        return given
    if call.function is F.embedding and len(given) == 2 and call.kwargs.items() <= _PLAIN.items():
        return given[1], given[0]
    return None, None


def _embedding(weight: nn.Parameter) -> nn.Embedding:
    found = nn.Embedding(weight.size(0), weight.size(1), device="meta")  # nothing is drawn for it
    found.weight = weight
    return found


def names_in_scope(weights: Sequence[Tensor]) -> dict[Tensor, str]:
    """What the script that is running calls some tensors; "weight" where it has no name for one.

    These are the names of variables where each has one, else places in lists and the like as well: a variable that
    goes over such a list is its last element too.
    """
    variables: dict[int, str] = {}
    places: dict[int, str] = {}
    for found in _scopes():
        for name, value in found.items():
            if isinstance(value, Tensor):
                variables.setdefault(id(value), name)
            for place, part in _parts(value):
                places.setdefault(id(part), f"{name}{place}")
    known = variables if all(id(weight) in variables for weight in weights) else variables | places
    return {weight: known.get(id(weight), "weight") for weight in weights}


def _scopes() -> Iterator[Mapping[str, Any]]:
    """Global and local variables of the code that runs, the outermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).split(".")[0] not in _NOT_A_SCRIPT:
            frames.append(frame)
        frame = frame.f_back
    for each in reversed(frames):
        yield dict(each.f_globals)
        yield dict(each.f_locals)


def _parts(value: Any) -> Iterator[tuple[str, Tensor]]:
    """What a list, a dict or a module of a script holds, and where."""
    if isinstance(value, nn.Module):
        yield from ((f".{name}", weight) for name, weight in value.named_parameters())
    elif type(value) in (list, tuple):
        yield from ((f"[{at}]", part) for at, part in enumerate(value) if isinstance(part, Tensor))
    elif type(value) is dict:
        yield from ((f"[{key}]", part) for key, part in value.items() if isinstance(part, Tensor))
