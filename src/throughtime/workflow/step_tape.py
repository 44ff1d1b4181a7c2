"""A tape of one training step of a script: the modules and the weights it uses, and what it does in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.overrides import TorchFunctionMode

from throughtime.measurement.arguments import tensors_within

__all__ = ["Call", "StepTape", "mapped", "opened"]

_MOST_CALLS = 20_000
"""Of one step; a script that makes more of them is not replayed."""

_MOST_NUMBERS = 1 << 24
"""Numbers that are kept of calls that are not noted: a batch, and no data set."""

_MOST_BEGUN = 256
"""Calls of a step on what comes from no module; with more, it is no step but an evaluation, whose graphs want room."""

_NOT_NOTED = ("backward", "multinomial", "bernoulli", "poisson", "binomial", "normal")
"""What is drawn stays as it was drawn."""


@dataclass(frozen=True)
class Call:
    """Of a module, or of a torch function on weights, or on what came from either.

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

    @property
    def written(self) -> Tensor | None:
        """The tensor that it writes into, its first one; None where it writes into none."""
        return next(tensors_within((self.args, self.kwargs)), None) if _changes_in_place(self.function) else None


class StepTape(TorchFunctionMode):
    """While it is entered, notes the calls of a step as the script makes them; not those inside of its modules.

    What comes neither from a module nor from a leaf of the graph (data, a state of zeros, constants) is not traced back
    any further, nor what is made without gradients (a drawn action, a guess that is fed back).

    Of a loop over time the first turn may compute something that comes from neither, as what joins an input and a state
    of zeros: that is told by the later turns, which do the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.depth = 0
        self._known: set[int] = set()
        self._ended = False
        self._num_begun = 0
        self._updated = False
        self._loose: dict[int, Tensor] = {}
        self._lasting: dict[int, Tensor] | None = None
        self._others: dict[int, Call] = {}
        self._num_numbers = 0
        self._others_are_old = False

    @property
    def first_turns(self) -> list[Call]:
        """Calls that were not noted, of which something comes that is put to the same use again."""
        kinds = {_kind(call) for call in self.calls}
        used = {id(tensor) for call in self.calls for tensor in tensors_within((call.args, call.kwargs))}
        likely = [call for key, call in self._others.items() if key in used and _kind(call) in kinds]
        return [call for call in likely if self._is_repeated(call)]

    def _is_repeated(self, first: Call) -> bool:
        kind, known = _kind(first), {id(first.result)}
        for call in self.calls:
            if any(id(tensor) in known for tensor in tensors_within((call.args, call.kwargs))):
                if _kind(call) == kind:
                    return True
                known.update(id(tensor) for tensor in tensors_within(call.result))
        return False

    @property
    def loose(self) -> list[Tensor]:
        """The leaves that the step computes with outside of modules, in their order."""
        return list(self._loose.values())

    @property
    def lasting(self) -> list[Tensor]:
        """Those among them that every step so far has computed with: data is another tensor at each."""
        return [leaf for key, leaf in self._loose.items() if self._lasting is not None and key in self._lasting]

    def end_update(self) -> None:
        """Weights have been changed, or are about to be: what is computed with leaves next belongs to another step."""
        self._updated = self._others_are_old = True

    def end_step(self) -> None:
        """The backward pass begins: what a module is called with next belongs to another step."""
        self._ended = True

    def of_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A module that the script itself called has returned."""
        if not torch.is_grad_enabled():
            return
        trained, follows = any(True for _ in module.parameters()), self.has_made((args, kwargs))
        if trained and self._ended:
            self._begin_step()
        self._num_begun += trained and not follows
        if self._num_begun > _MOST_BEGUN:
            self.calls, self._known = [], set()
        elif trained or follows:
            self._note(Call(module, args, kwargs, opened(result)))

    def has_made(self, given: Any) -> bool:
        """Whether some of it came from a call of the step that is noted."""
        return any(id(tensor) in self._known for tensor in tensors_within(given))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and note it where it takes a leaf or what came from a call that is noted."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if self.depth == 0 and torch.is_grad_enabled() and name not in _NOT_NOTED:
            call = Call(func, args, dict(kwargs or {}), result)
            if self._takes_leaves(call) or self.has_made((args, kwargs)):
                self._note_function(call)
            elif isinstance(result, Tensor) and call.written is None and name != "__get__":
                self._note_other(call)
        return result

    def _note_other(self, call: Call) -> None:
        if self._others_are_old:
            self._others, self._num_numbers, self._others_are_old = {}, 0, False
        num_numbers = self._num_numbers + call.result.numel()
        if len(self._others) < _MOST_CALLS and num_numbers <= _MOST_NUMBERS:
            self._others[id(call.result)], self._num_numbers = call, num_numbers

    def _note_function(self, call: Call) -> None:
        if call.written is not None:
            self._known.add(id(call.written))
            self._note(call)
        elif any(True for _ in tensors_within(call.result)):
            self._note(replace(call, result=opened(call.result)))

    def _begin_step(self) -> None:
        self._lasting = self._loose if self._lasting is None else {id(leaf): leaf for leaf in self.lasting}
        self.calls, self._known, self._loose, self._num_begun = [], set(), {}, 0
        self._ended = self._updated = False

    def _takes_leaves(self, call: Call) -> bool:
        """Whether something with a gradient is computed with leaves; these are remembered."""
        leaves = [part for part in tensors_within((call.args, call.kwargs)) if part.requires_grad and part.is_leaf]
        made = call.result if call.written is None else call.written
        if not leaves or all(tensor.grad_fn is None for tensor in tensors_within(made)):
            return False
        if self._updated:
            self._begin_step()
        self._loose |= {id(leaf): leaf for leaf in leaves}
        return True

    def _note(self, call: Call) -> None:
        if len(self.calls) < _MOST_CALLS:
            self.calls.append(call)  # keeps its tensors alive, so that no two of a step have one id
            self._known.update(id(tensor) for tensor in tensors_within(call.result))


def _kind(call: Call) -> tuple[Any, ...]:
    """What calls in the same place of a loop have in common."""
    shapes = (tuple(part.shape for part in tensors_within(each)) for each in ((call.args, call.kwargs), call.result))
    return (call.function, *shapes)


def _changes_in_place(function: Callable[..., Any]) -> bool:
    """Whether a torch function writes into its first argument."""
    name = getattr(function, "__name__", "")
    inside = name.startswith("__i") and name.endswith("__") and name not in ("__index__", "__invert__", "__int__")
    return name == "__setitem__" or inside or (name.endswith("_") and not name.endswith("__"))


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
