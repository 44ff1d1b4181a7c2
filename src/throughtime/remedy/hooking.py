"""What a plan puts before and behind modules, as hooks in plain PyTorch: `TreatmentPlan.code` prints these classes.

A hook leaves the model's class, attributes and weights as they are; it is copied and pickled with the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

__all__ = [
    "DropOutputs",
    "KeepGraph",
    "ScaleRecurrence",
    "StandardiseInputs",
    "argument_names",
    "on_first_real",
    "on_named",
    "outer_recurrences",
    "raise_dropout",
]


def outer_recurrences(model: nn.Module) -> Iterator[nn.Module]:
    """Recurrent modules of a model, in their order, without what is inside of one."""
    inside: set[nn.Module] = set()
    for module in model.modules():
        known = isinstance(module, (nn.RNNBase, nn.RNNCellBase))
        own = type(module).__module__.startswith("throughtime.")
        ours = own and hasattr(module, "initial_state") and hasattr(module, "num_layers")
        if module not in inside and (known or ours):
            inside.update(module.modules())
            yield module


class WithoutDetach(TorchFunctionMode):
    """While it is on, `x.detach()` is x."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every other function as it is."""
        return args[0] if func in (Tensor.detach, torch.detach) else func(*args, **(kwargs or {}))


class KeepGraph:
    """Hooks of a model: inside its forward pass nothing is detached, so that the gradient goes all the way.

    Args:
        model: one that keeps no state from call to call; that would keep the graphs of all calls.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modes: list[WithoutDetach] = []
        model.register_forward_pre_hook(self.enter)
        model.register_forward_hook(self.leave, always_call=True)

    def enter(self, *_: Any) -> None:
        """Before the forward pass."""
        self.modes.append(WithoutDetach())
        self.modes[-1].__enter__()  # type: ignore[no-untyped-call]  # of torch

    def leave(self, *_: Any) -> None:
        """After it, whatever happened."""
        if self.modes:
            self.modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]  # of torch


def on_first_real(
    change: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, the first one that holds real numbers changed: a tensor or a packed sequence."""
    for index, value in enumerate(args):
        if isinstance(value, (Tensor, PackedSequence)) and value.data.is_floating_point():
            return (*args[:index], change(value), *args[index + 1 :]), kwargs
    for name, value in kwargs.items():
        if isinstance(value, (Tensor, PackedSequence)) and value.data.is_floating_point():
            return args, {**kwargs, name: change(value)}
    return args, kwargs


def argument_names(module: nn.Module) -> list[str]:
    """Of the `forward` of its class: that of a module may be wrapped."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def on_named(
    change: Callable[[Any], Any], name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, the one of that name changed where it holds real numbers."""
    place = argument_names(module).index(name)
    value = args[place] if place < len(args) else kwargs.get(name)
    if not isinstance(value, (Tensor, PackedSequence)) or not value.data.is_floating_point():
        return args, kwargs
    if place < len(args):
        return (*args[:place], change(value), *args[place + 1 :]), kwargs
    return args, {**kwargs, name: change(value)}


class StandardiseInputs:
    """A forward pre-hook of the model: (x - mean) / deviation for one of its arguments, cut off at clip.

    Args:
        mean: one number a feature (last axis), or one for all.
        deviation: likewise; features that never change have 1.
        clip: in deviations; None for no bound.
        argument: its name; the first of real numbers unless given.
    """

    def __init__(
        self,
        mean: Sequence[float],
        deviation: Sequence[float],
        clip: float | None = None,
        argument: str | None = None,
    ) -> None:
        self.mean, self.deviation, self.clip, self.argument = tuple(mean), tuple(deviation), clip, argument

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with that one standardised."""
        if self.argument is None:
            return on_first_real(self.standardised, args, kwargs)
        return on_named(self.standardised, self.argument, module, args, kwargs)

    def standardised(self, x: Any) -> Any:
        """Of a tensor or a packed sequence."""
        if isinstance(x, PackedSequence):
            return x._replace(data=self.standardised(x.data))
        mean, deviation = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (self.mean, self.deviation))
        y = (x - mean) / deviation
        return y if self.clip is None else y.clamp(-self.clip, self.clip)


class ScaleRecurrence:
    """Hooks of a recurrent module: x -> input_gain x before it; y -> gain y and h -> gain h behind it.

    A state that comes back is divided by the gain again, so that the recurrence itself is what it was.

    Args:
        module: a layer or a cell.
        gain: of the outputs and of the state h (never of c).
        input_gain: of the inputs.
    """

    def __init__(self, module: nn.Module, gain: float = 1.0, input_gain: float = 1.0) -> None:
        self.gain, self.input_gain = gain, input_gain
        self.is_cell = isinstance(module, nn.RNNCellBase)
        module.register_forward_pre_hook(self.before, with_kwargs=True)
        module.register_forward_hook(self.behind)

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments of the module: inputs and, where there is one, the state."""
        named = dict(zip(("input", "state"), args, strict=False)) | kwargs
        scaled = {
            name: self.times(self.input_gain, value)
            if name in ("input", "x")
            else self.state_times(1 / self.gain, value)
            if name in ("state", "hx")
            else value
            for name, value in named.items()
        }
        return tuple(scaled.pop(name) for name in ("input", "state")[: len(args)]), scaled

    def behind(self, _: nn.Module, __: Any, result: Any) -> Any:
        """What the module returned: (y, state), or the state of a cell."""
        if self.is_cell:
            return self.state_times(self.gain, result)
        return self.times(self.gain, result[0]), self.state_times(self.gain, result[1])

    def times(self, gain: float, x: Any) -> Any:
        """A tensor or a packed sequence times a gain."""
        return x._replace(data=gain * x.data) if isinstance(x, PackedSequence) else gain * x

    def state_times(self, gain: float, state: Any) -> Any:
        """A state with its h, the only or first part, times a gain."""
        if state is None or gain == 1:
            return state
        return (gain * state[0], *state[1:]) if isinstance(state, tuple) else gain * state


class DropOutputs:
    """A forward hook of a recurrent layer: a share of the features of y is zero in training, the same at all steps.

    *Reference*: Gal & Ghahramani 2016, arXiv:1512.05287. The state is left as it is.

    Args:
        share: from 0 to 1.
        time: the axis of time in y.
    """

    def __init__(self, share: float, time: int) -> None:
        self.share, self.time = share, time

    def __call__(self, module: nn.Module, _: Any, result: Any) -> Any:
        """(y, state) with y dropped."""
        y, state = result
        if not module.training or self.share <= 0:
            return y, state
        if isinstance(y, PackedSequence):
            return y._replace(data=nn.functional.dropout(y.data, self.share)), state
        mask = nn.functional.dropout(torch.ones_like(y.narrow(self.time, 0, 1)), self.share)
        return y * mask, state


def raise_dropout(model: nn.Module, share: float) -> None:
    """Dropout of at least this share: where the model has some, there; else behind its recurrent layers."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = max(layer.p, share)
    for module in [] if layers else outer_recurrences(model):
        if not isinstance(module, nn.RNNCellBase):
            module.register_forward_hook(DropOutputs(share, 1 if getattr(module, "batch_first", False) else 0))
