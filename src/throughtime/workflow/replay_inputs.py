"""The inputs of a step that is made again: what modules, or weights that are in none, meet that comes from neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.measurement.arguments import tensors_within
from throughtime.workflow.step_tape import Call

__all__ = ["FEWEST_STEPS", "Function", "LookUp", "Made", "Root", "Slot", "is_constant", "look_ups_of", "roots_of"]

FEWEST_STEPS = 3
"""Calls in a loop over time; fewer are two uses of a module."""


@dataclass(frozen=True)
class Slot:
    """A tensor that is known only when the step is made again."""

    number: int


@dataclass(frozen=True)
class Function:
    """A torch function; some of them (the getters of attributes) cannot be copied, and none has to be."""

    call: Callable[..., Any]

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return self


@dataclass(frozen=True)
class Made:
    """A call whose tensors are slots, or constants; its function is a module by name."""

    function: Function | str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


@dataclass(frozen=True)
class Root:
    """An input: one slot, or those of a loop's steps in their order, which lie along a first axis.

    It may be given with an axis of one sequence behind that of time, where it has none.
    """

    slots: tuple[int, ...]
    is_series: bool
    shape: tuple[int, ...]

    def given(self, tensor: Tensor) -> dict[int, Tensor]:
        """What its slots get of an input."""
        tensor = self.as_seen(tensor, tensor)
        return dict(zip(self.slots, tensor.unbind(0) if self.is_series else (tensor,), strict=True))

    def changes(self, given: Tensor) -> dict[int, int]:
        """Sizes that are others now, such as that of the batch."""
        new = self.as_seen(given, given).shape
        return {old: new for old, new in zip(self.shape, new, strict=True) if old != new}

    def as_seen(self, given: Tensor, tensor: Tensor) -> Tensor:
        """What comes of an input, without the axis of one sequence if that was not there."""
        return tensor.squeeze(1) if given.dim() > len(self.shape) else tensor


@dataclass(frozen=True)
class LookUp:
    """The slots that an embedding of the steps of one input gives, in their order."""

    embedding: str
    place: int
    root: Root
    results: tuple[int, ...]

    def found(self, model: nn.Module, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """What they get of the model's inputs."""
        ids = inputs[self.place]
        looked_up = self.root.as_seen(ids, model.get_submodule(self.embedding)(ids))
        return dict(zip(self.results, looked_up.unbind(0), strict=True))


def roots_of(
    calls: Sequence[Call], slots: dict[int, int], own: set[int], of_functions: bool
) -> tuple[list[Root], list[Tensor]]:
    """The inputs, and the slots that they get: what modules are given that comes from none, constants left out.

    Those of a loop over time come first. With `of_functions` what functions are given too.
    """
    places: dict[tuple[Any, ...], list[Tensor]] = {}
    for call in calls:
        if not (call.is_module or of_functions):
            continue
        for at, tensor in enumerate(tensors_within((call.args, call.kwargs))):
            single = tensor.numel() == 1  # such as an id of one sequence alone: constant if it is the same at each step
            if id(tensor) not in slots and id(tensor) not in own and (single or not is_constant(tensor)):
                found = places.setdefault((call.function, at, tensor.shape, tensor.dtype), [])
                if all(tensor is not other for other in found):
                    found.append(tensor)
    pairs = []
    for found in places.values():
        new = [tensor for tensor in found if id(tensor) not in slots]
        series = len(new) >= FEWEST_STEPS
        for part in [new] if series else [[tensor] for tensor in new]:
            together = torch.stack([tensor.detach() for tensor in part]) if series else part[0].detach()
            if not is_constant(together):
                slots |= {id(tensor): len(slots) + place for place, tensor in enumerate(part)}
                root = Root(tuple(slots[id(tensor)] for tensor in part), series, tuple(together.shape))
                pairs.append((root, together))
    pairs.sort(key=lambda pair: not pair[0].is_series)
    return [root for root, _ in pairs], [together for _, together in pairs]


def look_ups_of(calls: Sequence[Made], roots: Sequence[Root], parts: Mapping[str, nn.Module]) -> list[LookUp]:
    """Embeddings that are called on each step of an input: what reaches through time is seen where all steps are."""
    found = []
    for name, module in parts.items():
        if type(module) is not nn.Embedding or module.scale_grad_by_freq:
            continue
        own = [call for call in calls if call.function == name and len(call.args) == 1 and not call.kwargs]
        given = {call.args[0].number: call.result.number for call in own if isinstance(call.args[0], Slot)}
        for at, root in enumerate(roots):
            if root.is_series and all(slot in given for slot in root.slots):
                found.append(LookUp(name, at, root, tuple(given[slot] for slot in root.slots)))
    return found


def is_constant(tensor: Tensor) -> bool:
    """A state of zeros, a start symbol: the same number everywhere."""
    return tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())
