"""A script's step as one module: its calls of several modules, or of one at each time step, made again in their order.

A user's encoder and decoder, or a cell that the script itself calls in a loop over time, are no single model that could
be called with a batch. What one step of the script did with them (`StepTape`) can be done again with other inputs, so
that all of it can be diagnosed as if it were one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.workflow.step_tape import Call, changed_in_place, mapped, tensors_within

__all__ = ["Replay", "Replayed", "called_in_turn", "replayed"]

_FEWEST_STEPS = 3
"""Calls in a loop over time; fewer are two uses of a module."""


@dataclass(frozen=True)
class _Slot:
    """A tensor that is known only when the step is made again."""

    number: int


@dataclass(frozen=True)
class _Function:
    """A torch function; some of them (the getters of attributes) cannot be copied, and none has to be."""

    call: Callable[..., Any]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Function:
        return self


@dataclass(frozen=True)
class _Made:
    """A call whose tensors are slots, or constants; its function is a module by name."""

    function: _Function | str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


@dataclass(frozen=True)
class _Root:
    """An input: one slot, or those of a loop's steps in their order, which lie along a first axis."""

    slots: tuple[int, ...]
    is_series: bool


class Replay(nn.Module):
    """Makes the calls of a step again, with the inputs of its modules replaced.

    Args:
        parts: the modules, by name.
        calls: in their order.
        roots: the inputs.
        buffers: constants that calls write into, by slot.
        outputs: what is returned, stacked along a first axis where there are several.
    """

    def __init__(
        self,
        parts: dict[str, nn.Module],
        calls: Sequence[_Made],
        roots: Sequence[_Root],
        buffers: dict[int, Tensor],
        outputs: Sequence[int],
    ) -> None:
        super().__init__()
        for name, module in parts.items():
            self.add_module(name, module)
        self._calls, self._roots = tuple(calls), tuple(roots)
        self._written_into, self._outputs = buffers, tuple(outputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """(inputs in the order of their first use) -> what the loss takes."""
        values: dict[int, Any] = {slot: tensor.clone() for slot, tensor in self._written_into.items()}
        for root, given in zip(self._roots, inputs, strict=True):
            values.update(zip(root.slots, given.unbind(0) if root.is_series else (given,), strict=True))
        for call in self._calls:
            function = self.get_submodule(call.function) if isinstance(call.function, str) else call.function.call
            args, kwargs = mapped((call.args, call.kwargs), lambda part: _filled(part, values))
            _fill(call.result, function(*args, **kwargs), values)
        found = [values[slot] for slot in self._outputs]
        return found[0] if len(found) == 1 else torch.stack(found)


@dataclass(frozen=True)
class Replayed:
    """A step that can be made again.

    Attributes:
        model: the replay.
        inputs: what it is called with.
        time_first: whether a loop over time stands in the script, so that time is the first axis of the first input.
    """

    model: Replay
    inputs: Any
    time_first: bool


def called_in_turn(calls: Sequence[Call], module: nn.Module) -> bool:
    """Whether a module is called again and again on what its own calls gave before: a loop over time."""
    known: set[int] = set()
    in_turn = 0
    for call in calls:
        comes = any(id(tensor) in known for tensor in tensors_within((call.args, call.kwargs)))
        in_turn += comes and call.function is module
        if comes or call.function is module:
            known.update(id(tensor) for tensor in tensors_within(call.result))
    return in_turn >= _FEWEST_STEPS - 1


def replayed(calls: Sequence[Call], outputs: Sequence[Tensor]) -> Replayed | None:
    """The calls that some outputs come from, as one module; None where these do not come from modules alone.

    Args:
        calls: of one step.
        outputs: of it, each as it was.
    """
    needed = _needed(calls, outputs)
    modules = list(dict.fromkeys(call.function for call in needed if isinstance(call.function, nn.Module)))
    if not modules:
        return None
    own = {id(p) for module in modules for p in (*module.parameters(), *module.buffers())}
    slots: dict[int, int] = {}
    for call in needed:
        for tensor in tensors_within(call.result):
            slots.setdefault(id(tensor), len(slots))
    if any(id(tensor) not in slots for tensor in outputs):
        return None
    written = {id(c.args[0]): c.args[0] for c in needed if changed_in_place(c.function) and id(c.args[0]) not in slots}
    for key in written:
        slots[key] = len(slots)
    roots, inputs = _roots(needed, slots, own)
    if not roots:
        return None
    names = _names(modules)
    kept = _Kept(slots, own)
    made = [
        _Made(
            names[call.function] if isinstance(call.function, nn.Module) else _Function(call.function),
            mapped(call.args, kept),
            mapped(call.kwargs, kept),
            mapped(call.result, kept),
        )
        for call in needed
    ]
    buffers = {slots[key]: tensor.detach().clone() for key, tensor in written.items()}
    parts = {name: module for module, name in names.items()}
    model = Replay(parts, made, roots, buffers, [slots[id(tensor)] for tensor in outputs])
    return Replayed(model, inputs[0] if len(inputs) == 1 else tuple(inputs), roots[0].is_series)


@dataclass(frozen=True)
class _Kept:
    """Puts slots in the place of tensors that have one; others stay as constants, parameters as they are."""

    slots: dict[int, int]
    own: set[int]

    def __call__(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        if id(part) in self.slots:
            return _Slot(self.slots[id(part)])
        return part if id(part) in self.own else part.detach()


def _needed(calls: Sequence[Call], outputs: Sequence[Tensor]) -> list[Call]:
    """Those that the outputs come from, in their order."""
    wanted = {id(tensor) for tensor in outputs}
    kept = []
    for call in reversed(calls):
        writes = changed_in_place(call.function) and id(call.args[0]) in wanted
        if writes or any(id(tensor) in wanted for tensor in tensors_within(call.result)):
            kept.append(call)
            wanted.update(id(tensor) for tensor in tensors_within((call.args, call.kwargs)))
    return kept[::-1]


def _roots(calls: Sequence[Call], slots: dict[int, int], own: set[int]) -> tuple[list[_Root], list[Tensor]]:
    """The inputs, and the slots that they get: what modules are given that comes from none, constants left out."""
    places: dict[tuple[Any, ...], list[Tensor]] = {}
    for call in calls:
        if not call.is_module:
            continue
        for at, tensor in enumerate(tensors_within((call.args, call.kwargs))):
            if id(tensor) not in slots and id(tensor) not in own and not _constant(tensor):
                found = places.setdefault((call.function, at, tensor.shape, tensor.dtype), [])
                if all(tensor is not other for other in found):
                    found.append(tensor)
    roots, inputs = [], []
    for found in places.values():
        new = [tensor for tensor in found if id(tensor) not in slots]
        for tensor in new:
            slots[id(tensor)] = len(slots)
        series = len(new) >= _FEWEST_STEPS
        for part in [new] if series else [[tensor] for tensor in new]:
            roots.append(_Root(tuple(slots[id(tensor)] for tensor in part), series))
            inputs.append(torch.stack([tensor.detach() for tensor in part]) if series else part[0].detach())
    return roots, inputs


def _constant(tensor: Tensor) -> bool:
    """A state of zeros, a start symbol: the same number everywhere."""
    return tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())


def _names(modules: Sequence[nn.Module]) -> dict[nn.Module, str]:
    names: dict[nn.Module, str] = {}
    for module in modules:
        name = type(module).__name__.lower()
        names[module] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


def _filled(part: Any, values: dict[int, Any]) -> Any:
    return values[part.number] if isinstance(part, _Slot) else part


def _fill(recorded: Any, result: Any, values: dict[int, Any]) -> None:
    """Put what a call returns where it was recorded."""
    if isinstance(recorded, _Slot):
        values[recorded.number] = result
    elif isinstance(recorded, dict):
        for name, part in recorded.items():
            _fill(part, result[name], values)
    elif isinstance(recorded, (tuple, list)):
        for part, found in zip(recorded, result, strict=True):
            _fill(part, found, values)
