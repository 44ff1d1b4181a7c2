"""What a model is called with: one argument, several in a tuple or list, or named ones in a mapping.

A mapping alone in a tuple is one argument of the model, which takes its parts out of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

__all__ = [
    "arguments",
    "each_argument",
    "forward",
    "named_arguments",
    "opened",
    "own",
    "replaced",
    "tensors_among",
    "tensors_within",
]


def arguments(inputs: Any) -> tuple[Any, ...]:
    """One after the other; a packed sequence, though a tuple, is one. Of a mapping alone in a tuple its parts."""
    inputs = opened(inputs)
    if isinstance(inputs, dict):
        return tuple(inputs.values())
    return tuple(inputs) if _several(inputs) else (inputs,)


def named_arguments(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """By the names that the `forward` of the model's class has for them; empty where it does not take them so."""
    try:
        signature = inspect.signature(type(model).forward)
        if isinstance(inputs, dict):
            bound = signature.bind(model, **inputs)
        else:
            bound = signature.bind(model, *(inputs if _several(inputs) else (inputs,)))
    except (TypeError, ValueError):  # a call that does not fit, or a compiled function without a signature
        return {}
    return dict(list(bound.arguments.items())[1:])


def tensors_among(inputs: Any) -> list[Tensor]:
    """Of the arguments, those that are tensors."""
    return [value for value in arguments(inputs) if isinstance(value, Tensor)]


def forward(model: nn.Module, inputs: Any, *further: Any) -> Any:
    """What the model returns, whatever it is.

    Args:
        model: any.
        inputs: what it is called with.
        further: arguments that come after those, such as a state; none where arguments have names.
    """
    if isinstance(inputs, dict):
        assert not further, "an argument without a name, after others that have one"
        return model(**inputs)
    return model(*(inputs if _several(inputs) else (inputs,)), *further)


def each_argument(inputs: Any, change: Callable[[Any], Any]) -> Any:
    """The same, with each argument changed."""
    if isinstance(inputs, dict):
        return {name: change(value) for name, value in inputs.items()}
    if opened(inputs) is not inputs:
        return (each_argument(opened(inputs), change),)
    return tuple(change(value) for value in inputs) if _several(inputs) else change(inputs)


def replaced(inputs: Any, old: Any, new: Any) -> Any:
    """The same, with one argument replaced by another."""
    return each_argument(inputs, lambda value: new if value is old else value)


def own(value: Any) -> Any:
    """The same with copies of the tensors, however deep they lie: a model may write into what it is given."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: own(part) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(own(part) for part in value)
    return value


def tensors_within(value: Any) -> Iterator[Tensor]:
    """All tensors in tuples, lists and dicts, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_within(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_within(part)


def opened(inputs: Any) -> Any:
    """The mapping alone in a tuple, or what was given."""
    return inputs[0] if _several(inputs) and len(inputs) == 1 and isinstance(inputs[0], dict) else inputs


def _several(inputs: Any) -> bool:
    return isinstance(inputs, (tuple, list)) and not isinstance(inputs, PackedSequence)
