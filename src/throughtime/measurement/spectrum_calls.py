"""What a model hands to its recurrent modules, caught on its way, and the model left as it was found."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.measurement.arguments import forward

__all__ = ["Call", "caught_calls", "left_as_found", "recurrent_modules"]

_FORWARDS = {kind.forward for kind in (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)}


@dataclass(frozen=True)
class Call:
    """What a recurrent module was given and gave back, for the sequences chosen, time first.

    Attributes:
        pieces: x, each (T, B, I), to be joined along time.
        start: the state passed in, each part (L * directions, B, ...); None where the module began from its own.
        final: the state given back.
        lengths: (B,), or None for T.
        reset: (T, B) bool, or None.
    """

    pieces: list[Tensor]
    start: tuple[Tensor, ...] | None
    final: tuple[Tensor, ...]
    lengths: Tensor | None = None
    reset: Tensor | None = None


def recurrent_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent modules in a model by their names; a module inside a `Recurrent` belongs to its cell.

    A subclass with a `forward` of its own computes other equations, and is left out.
    """
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if isinstance(module, Recurrent):
            inside.update(module.modules())
        elif type(module).forward not in _FORWARDS:
            continue
        found[name or type(module).__name__] = module
    return found


def caught_calls(
    model: nn.Module, inputs: object, modules: Mapping[str, nn.Module], choose: Callable[[int], Tensor]
) -> dict[str, list[Call]]:
    """Run the model once and note every call of `modules`; calls that go on from one another's state count as one.

    Args:
        model: what to run, in the mode it is in, without gradients.
        inputs: its argument; a tuple or list of arguments, or a dict of named ones.
        modules: what to watch.
        choose: batch size -> the rows to keep.

    Returns:
        The calls of each module that was called.

    Raises:
        InputError: if the model fails.
    """
    calls: dict[str, list[Call]] = {name: [] for name in modules}
    with ExitStack() as hooks:
        for name, module in modules.items():

            def note(
                module: nn.Module, args: tuple[Any, ...], given: dict[str, Any], result: Any, name: str = name
            ) -> None:
                bound = inspect.signature(module.forward).bind(*args, **given).arguments
                _append(calls[name], _as_call(module, bound, result, choose), module)

            handle = module.register_forward_hook(note, with_kwargs=True, prepend=True)
            hooks.callback(handle.remove)
        try:
            with torch.no_grad():
                forward(model, inputs)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the model fails on these inputs ({type(error).__name__}: {error}): hand over what it is called with, "
                "several arguments as a tuple"
            ) from error
    return {name: of_module for name, of_module in calls.items() if of_module}


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Put back what running a model may change: weights, buffers, attributes, modes, hooks and every random state."""
    modules = [(vars(module), copy.copy(vars(module))) for module in model.modules()]
    containers = [(value, copy.copy(value)) for _, held in modules for value in held.values() if _is_container(value)]
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    python, numpy = random.getstate(), np.random.get_state()
    on_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else ()):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for own, found in modules:
                own.clear()
                own.update(found)
            for changed, content in containers:
                changed.clear()
                changed.extend(content) if isinstance(changed, list) else changed.update(content)
            with torch.no_grad():
                for tensor, value in tensors:
                    if not torch.equal(tensor, value):
                        tensor.copy_(value)


def _is_container(value: object) -> bool:
    return isinstance(value, (dict, list, set))


def _as_call(module: nn.Module, bound: Mapping[str, Any], result: Any, choose: Callable[[int], Tensor]) -> Call:
    """One call of a module, whatever its kind, time first and with the rows of the batch that `choose` gives."""
    is_cell = isinstance(module, nn.RNNCellBase)
    x, state = bound["x" if isinstance(module, Recurrent) else "input"], bound.get("state", bound.get("hx"))
    final, lengths, reset = result if is_cell else result[1], bound.get("lengths"), bound.get("reset")
    batch_first = not is_cell and bool(module.batch_first)
    unbatched = False
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x)
    else:
        x = x.unsqueeze(0) if is_cell else x
        unbatched = x.dim() == 2
        x = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if batch_first else x
    rows = choose(x.size(1))

    def kept(tensor: Tensor) -> Tensor:
        return tensor.detach().to("cpu", copy=True).index_select(1, rows)

    def parts(state: Any) -> tuple[Tensor, ...]:
        each = (state,) if isinstance(state, Tensor) else tuple(state)
        each = tuple(part.unsqueeze(0) for part in each) if is_cell else each
        return tuple(kept(part.unsqueeze(1) if unbatched else part) for part in each)

    if reset is not None:
        reset = kept(reset.t() if batch_first else reset)
    if lengths is not None:
        lengths = torch.as_tensor(lengths).to("cpu", torch.int64)[rows]
    return Call([kept(x)], None if state is None else parts(state), parts(final), lengths, reset)


def _append(calls: list[Call], call: Call, module: nn.Module) -> None:
    """Join `call` to the last one if it goes on from where that one ended, as in a loop over time in the model."""
    both_ways = bool(getattr(module, "bidirectional", False))
    last = calls[-1] if calls else None
    cut = last is None or any(part is not None for part in (last.lengths, last.reset, call.lengths, call.reset))
    if last is None or cut or both_ways or call.start is None or not _same(last.final, call.start):
        calls.append(call)
    else:
        last.pieces.extend(call.pieces)
        calls[-1] = replace(last, final=call.final)


def _same(final: tuple[Tensor, ...], start: tuple[Tensor, ...]) -> bool:
    return len(final) == len(start) and all(torch.equal(a, b) for a, b in zip(final, start, strict=True))
