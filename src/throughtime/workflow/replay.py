"""A script's step as one module: its calls of several modules, or of one at each time step, made again in their order.

A user's encoder and decoder, or a cell that the script itself calls in a loop over time, are no single model that could
be called with a batch. What one step of the script did with them (`StepTape`) can be done again with other inputs, so
that all of it can be diagnosed as if it were one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.measurement.arguments import tensors_within
from throughtime.workflow.replay_inputs import (
    FEWEST_STEPS,
    Function,
    LookUp,
    Made,
    Root,
    Slot,
    is_constant,
    look_ups_of,
    roots_of,
)
from throughtime.workflow.step_tape import Call, mapped, opened

__all__ = ["Replay", "Replayed", "between", "called_in_turn", "loss_after", "replayed"]


@dataclass(frozen=True)
class _Even:
    """A constant that is the same number everywhere, such as a state of zeros: it may be as large as it has to be."""

    tensor: Tensor


class Replay(nn.Module):
    """Makes the calls of a step again, with the inputs of its modules replaced.

    Args:
        parts: the modules, by name.
        calls: in their order.
        roots: the inputs.
        buffers: constants that calls write into, by slot.
        outputs: what is returned, stacked along a first axis where there are several.
        look_ups: embeddings of all steps of an input, which are called once instead of once a step.
        weights: parameters that are in none of the modules, and the slots that they are put in.
    """

    def __init__(
        self,
        parts: dict[str, nn.Module],
        calls: Sequence[Made],
        roots: Sequence[Root],
        buffers: dict[int, Tensor],
        outputs: Sequence[int],
        look_ups: Sequence[LookUp],
        weights: Mapping[str, tuple[int, nn.Parameter]],
    ) -> None:
        super().__init__()
        for name, module in parts.items():
            self.add_module(name, module)
        for name, (_, weight) in weights.items():
            self.register_parameter(name, weight)
        self._slots = {name: slot for name, (slot, _) in weights.items()}
        self._calls, self._roots, self._look_ups = tuple(calls), tuple(roots), tuple(look_ups)
        self._written_into, self._outputs = buffers, tuple(outputs)

    @property
    def reads_one_sequence(self) -> bool:
        """Whether a loop over time reads one id at each step, of one sequence."""
        return self._roots[0].is_series and len(self._roots[0].shape) == 1

    def forward(self, *inputs: Tensor) -> Tensor:
        """(inputs in the order of their first use) -> what the loss takes."""
        sizes: dict[int, int] = {}
        values: dict[int, Any] = {slot: self.get_parameter(name) for name, slot in self._slots.items()}
        for root, given in zip(self._roots, inputs, strict=True):
            sizes |= root.changes(given)
            values |= root.given(given)
        for each in self._look_ups:
            values |= each.found(self, inputs)
        values |= {slot: _resized(tensor, sizes).clone() for slot, tensor in self._written_into.items()}
        _make_again(self._calls, values, sizes, self)
        found = [values[slot] for slot in self._outputs]
        return found[0] if len(found) == 1 else torch.stack(found)


@dataclass(frozen=True)
class _Glue:
    """What a script makes of some tensors until it has its loss; all other constants are in it."""

    calls: tuple[Made, ...]
    given: tuple[int, ...]
    loss: int

    def __call__(self, *given: Tensor) -> Tensor:
        """(those tensors, in their order) -> the loss."""
        values: dict[int, Any] = dict(zip(self.given, given, strict=True))
        _make_again(self.calls, values, {}, None)
        found: Tensor = values[self.loss]
        return found


@dataclass(frozen=True)
class _GlueOfSteps:
    """The same of outputs that a `Replay` has stacked."""

    glue: _Glue

    def __call__(self, outputs: Tensor) -> Tensor:
        """(T, ...) -> the loss."""
        return self.glue(*outputs.unbind(0))


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
    return in_turn >= FEWEST_STEPS - 1


def replayed(
    calls: Sequence[Call], outputs: Sequence[Tensor], weights: Mapping[str, nn.Parameter] | None = None
) -> Replayed | None:
    """The calls that some outputs come from, as one module; None where these do not come from modules alone.

    Args:
        calls: of one step.
        outputs: of it, each as it was.
        weights: those that are in no module, by name; where that is not None, what functions are given is an input too.
    """
    loose = weights or {}
    needed = _needed(calls, outputs)
    modules = list(dict.fromkeys(call.function for call in needed if isinstance(call.function, nn.Module)))
    if not (modules or loose):
        return None
    own = {id(p) for module in modules for p in (*module.parameters(), *module.buffers())}
    own |= {id(weight) for weight in loose.values()}
    slots, written = _slots(needed)
    if any(id(tensor) not in slots for tensor in outputs):
        return None
    roots, inputs = roots_of(needed, slots, own, of_functions=weights is not None)
    if not roots:
        return None
    slots |= {id(weight): len(slots) + at for at, weight in enumerate(loose.values())}
    names = _names(modules)
    buffers = {slots[id(tensor)]: tensor.detach().clone() for tensor in written}
    parts = {name: module for module, name in names.items()}
    made = _made(needed, slots, own, names)
    look_ups = look_ups_of(made, roots, parts)
    of_steps = {slot for each in look_ups for slot in each.results}
    made = [call for call in made if not (isinstance(call.result, Slot) and call.result.number in of_steps)]
    placed = {name: (slots[id(weight)], weight) for name, weight in loose.items()}
    model = Replay(parts, made, roots, buffers, [slots[id(tensor)] for tensor in outputs], look_ups, placed)
    return Replayed(model, inputs[0] if len(inputs) == 1 else tuple(inputs), roots[0].is_series)


def loss_after(calls: Sequence[Call], outputs: Sequence[Tensor], root: Tensor) -> Callable[[Tensor], Tensor] | None:
    """What comes between some outputs and the loss, as a function; None where more than these goes into it.

    Args:
        calls: of one step.
        outputs: as for `replayed`.
        root: the loss.
    """
    glue = between(calls, outputs, root)
    return _GlueOfSteps(glue) if glue is not None and len(outputs) > 1 else glue


def between(calls: Sequence[Call], given: Sequence[Tensor], root: Tensor) -> _Glue | None:
    """What comes between some tensors and the loss, as a function of these; None where nothing or a model does.

    Args:
        calls: of one step.
        given: outputs, or targets as well, each as it was.
        root: the loss.
    """
    ends = {id(tensor) for tensor in given}
    needed = _needed(calls, [root], ends)
    slots, written = _slots(needed)
    if written or id(root) not in slots or any(_trained(call.function) for call in needed):
        return None
    if not any(id(tensor) in ends for call in needed for tensor in tensors_within((call.args, call.kwargs))):
        return None
    for tensor in given:
        slots.setdefault(id(tensor), len(slots))
    names: dict[nn.Module, str] = {}
    made = _made([_plain(call) for call in needed], slots, set(), names)
    return _Glue(tuple(made), tuple(slots[id(tensor)] for tensor in given), slots[id(root)])


def _plain(call: Call) -> Call:
    """A module without weights as the function that it is."""
    if not isinstance(call.function, nn.Module):
        return call
    return Call(call.function.forward, call.args, call.kwargs, call.result)


def _trained(function: Any) -> bool:
    return isinstance(function, nn.Module) and any(True for _ in function.parameters())


def _slots(calls: Sequence[Call]) -> tuple[dict[int, int], list[Tensor]]:
    """A number for each tensor that the calls make, by its id; and for what they write into without having made it."""
    slots: dict[int, int] = {}
    for call in calls:
        for tensor in tensors_within(call.result):
            slots.setdefault(id(tensor), len(slots))
    made = set(slots)
    written = [call.written for call in calls if call.written is not None and id(call.written) not in made]
    for tensor in written:
        slots.setdefault(id(tensor), len(slots))
    return slots, written


def _made(calls: Sequence[Call], slots: dict[int, int], own: set[int], names: dict[nn.Module, str]) -> list[Made]:
    kept = _Kept(slots, own)
    return [
        Made(
            names[call.function] if isinstance(call.function, nn.Module) else Function(call.function),
            mapped(call.args, kept),
            mapped(call.kwargs, kept),
            mapped(call.result, kept),
        )
        for call in calls
    ]


def _make_again(calls: Sequence[Made], values: dict[int, Any], sizes: dict[int, int], parts: nn.Module | None) -> None:
    """All calls, one after another; `values` gets what they return."""
    for call in calls:
        if isinstance(call.function, str):
            assert parts is not None
            function: Callable[..., Any] = parts.get_submodule(call.function)
        else:
            function = call.function.call
        args, kwargs = mapped((call.args, call.kwargs), lambda part: _filled(part, values, sizes))
        _fill(call.result, opened(function(*args, **kwargs)), values)


def _resized(tensor: Tensor, sizes: dict[int, int]) -> Tensor:
    """With another size along the first axis that has one of the old ones: in a state that is that of the batch."""
    for axis, size in enumerate(tensor.shape):
        if size in sizes:
            return tensor.index_select(axis, torch.arange(sizes[size], device=tensor.device) % size)
    return tensor


@dataclass(frozen=True)
class _Kept:
    """Puts slots in the place of tensors that have one; others stay as constants, parameters as they are."""

    slots: dict[int, int]
    own: set[int]

    def __call__(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        if id(part) in self.slots:
            return Slot(self.slots[id(part)])
        if id(part) in self.own:
            return part
        constant = part.detach()
        return _Even(constant) if constant.dim() and is_constant(constant) else constant


def _needed(calls: Sequence[Call], outputs: Sequence[Tensor], given: Collection[int] = ()) -> list[Call]:
    """Those that the outputs come from, in their order, as far as the tensors whose ids are `given`."""
    wanted = {id(tensor) for tensor in outputs}
    kept = []
    for call in reversed(calls):
        writes = call.written is not None and id(call.written) in wanted
        handed = {id(tensor) for tensor in tensors_within((call.args, call.kwargs))}  # some functions return these
        if writes or any(id(tensor) in wanted - handed for tensor in tensors_within(call.result)):
            kept.append(call)
            wanted.update(id(tensor) for tensor in tensors_within((call.args, call.kwargs)) if id(tensor) not in given)
    return kept[::-1]


def _names(modules: Sequence[nn.Module]) -> dict[nn.Module, str]:
    names: dict[nn.Module, str] = {}
    for module in modules:
        name = type(module).__name__.lower()
        names[module] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


def _filled(part: Any, values: dict[int, Any], sizes: dict[int, int]) -> Any:
    if isinstance(part, _Even):
        return _resized(part.tensor, sizes)
    return values[part.number] if isinstance(part, Slot) else part


def _fill(recorded: Any, result: Any, values: dict[int, Any]) -> None:
    """Put what a call returns where it was recorded."""
    if isinstance(recorded, Slot):
        values[recorded.number] = result
    elif isinstance(recorded, dict):
        for name, part in recorded.items():
            _fill(part, result[name], values)
    elif isinstance(recorded, (tuple, list)):
        for part, found in zip(recorded, result, strict=True):
            _fill(part, found, values)
