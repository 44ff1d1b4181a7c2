"""Which axes of the inputs are time and sequences: as told, or as the recurrent modules of the model read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.measurement.model_copy import copied
from throughtime.measurement.probe import Axes, Probe, call, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["guessed_axes", "settled_axes", "takes_one_sequence"]

_TELLING = (Recurrent, nn.RNNBase, nn.MultiheadAttention)
"""Modules that say whether sequences come first."""

_FEW = 3
"""Sequences that a model is tried with."""


def settled_axes(model: nn.Module, inputs: Any, time_dim: int | None, batch_dim: int | None) -> tuple[Axes, bool]:
    """The axes of the inputs, and whether these are one sequence without an axis for the batch.

    Where they are not told, a copy of the model is run on a few sequences: a model may turn its inputs round before its
    recurrent modules read them.

    Raises:
        InputError: if they cannot be known.
    """
    x = first_tensor(inputs)
    told = time_dim is not None or batch_dim is not None or isinstance(x, PackedSequence)
    copy = None
    if isinstance(x, Tensor) and (x.dim() == 1 or (x.dim() == 2 and x.is_floating_point())):
        copy = copied(model)
        with left_as_found(copy):
            if takes_one_sequence(copy, inputs):
                return Axes(0, 1), True
    axes = guessed_axes(model, inputs, time_dim, batch_dim)
    if told:
        return axes, False
    copy = copied(model) if copy is None else copy
    turned = Axes(axes.batch, axes.time)
    turned_round = _is_read_so(copy, inputs, axes) is False and _is_read_so(copy, inputs, turned)
    return (turned if turned_round else axes), False


def guessed_axes(model: nn.Module, inputs: Any, time_dim: int | None, batch_dim: int | None) -> Axes:
    """The axes of the inputs: as given, or as the recurrent modules of the model have them.

    Raises:
        InputError: if they cannot be known.
    """
    x = first_tensor(inputs)
    if isinstance(x, Tensor):
        time_dim, batch_dim = (d + x.dim() if d is not None and d < 0 else d for d in (time_dim, batch_dim))
    if time_dim is not None or batch_dim is not None:
        time = 1 - batch_dim if time_dim is None and batch_dim in (0, 1) else time_dim
        if time is None:
            raise InputError(f"batch_dim={batch_dim} does not say where time is: give time_dim too")
        batch = (1 - time if time in (0, 1) else 0) if batch_dim is None else batch_dim
        if time == batch or min(time, batch) < 0:
            raise InputError(f"time_dim={time_dim} and batch_dim={batch_dim} are not two axes of the inputs")
        return Axes(time, batch)
    first = {bool(module.batch_first) for module in model.modules() if isinstance(module, _TELLING)}
    if isinstance(x, PackedSequence):
        return Axes(0, 1)
    if x.dim() < 2:
        raise InputError(f"inputs of shape {tuple(x.shape)} have no axes of time and of sequences")
    if len(first) == 1:
        return Axes(1, 0) if first.pop() else Axes(0, 1)
    raise InputError(
        f"time_dim cannot be guessed: the inputs have shape {tuple(x.shape)}, and the model has "
        + ("modules of both layouts" if first else "no recurrent module that says whether it is batch_first")
        + "; give time_dim= and batch_dim="
    )


def takes_one_sequence(model: nn.Module, inputs: Any) -> bool:
    """Whether the inputs are one sequence without an axis for the batch: (T, I), and so they come to a torch.nn.RNN.

    The model is run for it; what that changes is for the caller to put back.
    """
    kinds = (nn.RNNBase, nn.RNNCellBase)
    if not any(isinstance(module, kinds) for module in model.modules()):
        return False
    with _seen(model, kinds) as seen, torch.no_grad():
        call(model, inputs)
    return any(x.dim() == (1 if isinstance(module, nn.RNNCellBase) else 2) for module, x in seen)


def _is_read_so(model: nn.Module, inputs: Any, axes: Axes) -> bool | None:
    """Whether the modules read few sequences, cut out along these axes, as such; None if they do not say."""
    try:
        probe = Probe.of(inputs, None, axes)
        few = min(probe.num_sequences, _FEW)
        few -= few == probe.num_steps  # two numbers that cannot be taken for one another
        few_inputs = probe.chosen(torch.arange(few)).inputs
        with left_as_found(model), _seen(model, _TELLING) as seen, torch.no_grad():
            call(model, few_inputs)
    except InputError:
        return False
    sizes = [_sizes(module, x) for module, x in seen]
    steps = {id(module): 0 for module, _ in seen}
    for (module, _), (num_steps, _) in zip(seen, sizes, strict=True):
        steps[id(module)] += num_steps
    rows = {num_rows for _, num_rows in sizes}
    if probe.num_steps in steps.values() or few in rows:
        return True
    return False if few in steps.values() and probe.num_steps in rows else None


def _sizes(module: nn.Module, x: Tensor | PackedSequence) -> tuple[int, int]:
    """Steps and sequences, as the module reads them."""
    if isinstance(x, PackedSequence):
        return len(x.batch_sizes), int(x.batch_sizes[0])
    if x.dim() < 3:
        return x.size(0), 1
    return (x.size(1), x.size(0)) if module.batch_first else (x.size(0), x.size(1))


@contextmanager
def _seen(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[list[tuple[nn.Module, Any]]]:
    """What modules of some kinds are given, in the order of the calls."""
    seen: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = next((leaf for leaf in (*args, *kwargs.values()) if isinstance(leaf, Tensor | PackedSequence)), None)
        if given is not None:
            seen.append((module, given))

    chosen = [module for module in model.modules() if isinstance(module, kinds)]
    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in chosen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
