"""A tape of one training step of a script: the modules it calls, and what it does to their outputs in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

__all__ = ["Call", "StepTape", "changed_in_place", "mapped", "opened", "tensors_within"]

_MOST_CALLS = 20_000
"""Of one step; a script that makes more of them is not replayed."""

_MOST_BEGUN = 256
"""Calls of a step on what comes from no module; with more, it is no step but an evaluation, whose graphs want room."""

_NOT_NOTED = ("backward", "multinomial", "bernoulli", "poisson", "binomial", "normal")
"""What is drawn stays as it was drawn."""


@dataclass(frozen=True)
class Call:
    """Of a module, or of a torch function on what came from a module.

    Attributes:
        function: what was called.
        args: with which arguments, as they were.
        kwargs: and which named ones.
        result: and what it returned.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def is_module(self) -> bool:
        """Whether a module was called, and not a function."""
        return isinstance(self.function, nn.Module)


class StepTape(TorchFunctionMode):
    """While it is entered, notes the calls of a step as the script makes them; not those inside of its modules.

    What does not come from a module (data, a state of zeros, constants) is not traced back any further, nor what is
    made without gradients (a drawn action, a guess that is fed back).
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.depth = 0
        self._known: set[int] = set()
        self._ended = False
        self._num_begun = 0

    def end_step(self) -> None:
        """The backward pass begins: what a module is called with next belongs to another step."""
        self._ended = True

    def of_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A module that the script itself called has returned."""
        if not torch.is_grad_enabled():
            return
        trained, follows = any(True for _ in module.parameters()), self._comes_from_module((args, kwargs))
        if trained and self._ended:
            self.calls, self._known, self._ended, self._num_begun = [], set(), False, 0
        self._num_begun += trained and not follows
        if self._num_begun > _MOST_BEGUN:
            self.calls, self._known = [], set()
        elif trained or follows:
            self._note(Call(module, args, kwargs, opened(result)))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and note it where it takes what came from a module."""
        result = func(*args, **(kwargs or {}))
        here = self.depth == 0 and torch.is_grad_enabled() and getattr(func, "__name__", "") not in _NOT_NOTED
        if here and self._comes_from_module((args, kwargs)):
            if changed_in_place(func):
                self._known.add(id(args[0]))
                self._note(Call(func, args, dict(kwargs or {}), result))
            elif any(True for _ in tensors_within(result)):
                self._note(Call(func, args, dict(kwargs or {}), opened(result)))
        return result

    def _comes_from_module(self, given: Any) -> bool:
        return any(id(tensor) in self._known for tensor in tensors_within(given))

    def _note(self, call: Call) -> None:
        if len(self.calls) < _MOST_CALLS:
            self.calls.append(call)  # keeps its tensors alive, so that no two of a step have one id
            self._known.update(id(tensor) for tensor in tensors_within(call.result))


def changed_in_place(function: Callable[..., Any]) -> bool:
    """Whether a torch function writes into its first argument."""
    name = getattr(function, "__name__", "")
    inside = name.startswith("__i") and name.endswith("__") and name not in ("__index__", "__invert__", "__int__")
    return name == "__setitem__" or inside or (name.endswith("_") and not name.endswith("__"))


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


def opened(value: Any) -> Any:
    """What a call returns, with a distribution as the tensors that it holds, and values and indices as a pair."""
    if isinstance(value, Distribution):
        return {name: part for name, part in vars(value).items() if isinstance(part, Tensor)}
    if hasattr(type(value), "n_sequence_fields"):  # of `max`, `sort`, `topk` ...
        return tuple(value)
    if type(value) in (tuple, list):
        return type(value)(opened(part) for part in value)
    return value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same with every part that is no tuple, list or dict changed."""
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(part, change) for part in value))
    if type(value) in (tuple, list):
        return type(value)(mapped(part, change) for part in value)
    return change(value)
