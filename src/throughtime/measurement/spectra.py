"""Lyapunov exponents, singular values and saturation of every recurrence in a model, along its own inputs."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from throughtime.cell import GRU, LSTM, Cell, Elman
from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.layer.reversal import reverse_reset, reverse_time
from throughtime.measurement.adapters import is_adapted, put_in_stand_ins
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.exponents import Sweep, estimate, long_product, sweep
from throughtime.measurement.jacobian import State, flat
from throughtime.measurement.jacobian_trajectory import Trajectory, trajectory
from throughtime.measurement.model_check import checked_model, out_of_memory
from throughtime.measurement.model_copy import copied
from throughtime.measurement.probe import Probe, first_tensor
from throughtime.measurement.smaller import of_fewer_if_need_be
from throughtime.measurement.spectrum_calls import Call, caught_calls, left_as_found, recurrent_modules
from throughtime.measurement.spectrum_record import LayerSpectrum, SpectrumRecord
from throughtime.measurement.spectrum_steps import saturation, spectral_radius, step_singular_values

__all__ = ["LayerSpectrum", "SpectrumRecord", "spectrum"]

_WARM_UP = 0.2
"""Share of a sequence in which the frame turns towards the directions that it will follow."""


def spectrum(
    model: nn.Module,
    inputs: object,
    k: int = 16,
    *,
    num_sequences: int = 8,
    singular_values: bool | Literal["steps"] = True,
    seed: int = 0,
) -> SpectrumRecord:
    r"""Measure how small changes of the state grow or fade, in every recurrent layer that these inputs reach.

        d state_t = J_t d state_(t-1),    exponents: mean log growth of k orthogonal directions under J_t ... J_1

    It knows `torch.nn.RNN`, `GRU` and `LSTM` (every layer, direction and `proj_size`, packed sequences too), their
    `*Cell`s called in a loop of the model's own, `throughtime.Recurrent` with any cell, and the modules for which
    `throughtime.register_adapter` was called. The model runs once, in the mode it is in; then copies of its recurrent
    layers run step by step in float64 on the CPU, each layer driven by the one below, in plain equations (dropout and
    the random masks of a cell are drawn anew). The model is left as found. Where memory does not suffice for the batch,
    half as many sequences are measured, and the record says so.

    *Reference*: Engelken, Wolf & Abbott 2023, arXiv:2006.02427; Vogt, Puelma Touzel, Shlizerman & Lajoie 2022,
    arXiv:2006.14123; `throughtime.measurement.exponents` has the method and the departures.

    A sequence with resets is measured up to the first. A module that the model calls several times from states of
    their own is measured in its first call. The exponents hold for these sequences, not for an infinite one.

    Args:
        model: any module that holds a recurrence.
        inputs: what it is called with: one argument, a tuple or list of arguments, or a dict of named ones.
        k: how many exponents and singular values; all of them where a state is smaller.
        num_sequences: how many sequences of the batch are measured at most, drawn by `seed`.
        singular_values: whether those of single steps and of whole sequences are measured too, which takes most of the
            time; "steps": those of single steps alone. Fields of what is not measured stay empty.
        seed: of all that is drawn.

    Returns:
        A record with one entry for each layer and direction; an entry whose numbers cannot be had says why.

    Raises:
        InputError: if there is no such recurrence, the model does not run or does not reach one, a weight is NaN or
            infinite, every sequence has one step only, a cell does not run in float64, or there is no memory for one
            sequence.
        RecipeError: if `k` or `num_sequences` is below 1.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> record = spectrum(nn.LSTM(3, 8), torch.randn(50, 4, 3), k=2)
        >>> layer = record.layers["LSTM.l0"]
        >>> layer.exponents[0] < 0, layer.state_size, sorted(layer.spectral_radius)
        (True, 16, ['f', 'g', 'i', 'o'])
    """
    at_least("k", k, 1)
    at_least("num_sequences", num_sequences, 1)
    model = checked_model(model, inputs)  # what torch.compile wraps: hooks inside compiled code may never run
    if is_adapted(model):
        model = put_in_stand_ins(copied(model))
    modules = recurrent_modules(model)
    if not modules:
        raise InputError(
            f"no recurrence was found in {type(model).__name__}: expected a torch.nn.RNN, GRU or LSTM, one of their "
            "cells or a throughtime.Recurrent; write the step as a throughtime.Cell to have it measured"
        )
    asked = _Asked(k, seed, singular_values, num_sequences)
    try:
        return _record(model, inputs, modules, asked, ())
    except Exception as error:
        if not out_of_memory(error):
            raise
    gc.collect()  # what the failed try has left behind
    return _of_fewer(model, inputs, modules, asked)


@dataclass(frozen=True)
class _Asked:
    """Choices of `spectrum`."""

    k: int
    seed: int
    singular_values: bool | Literal["steps"]
    num_sequences: int


def _record(
    model: nn.Module, inputs: object, modules: dict[str, nn.Module], asked: _Asked, notes: tuple[str, ...]
) -> SpectrumRecord:
    """Of what the model does with all of these inputs."""
    with left_as_found(model), torch.inference_mode(False):
        torch.default_generator.manual_seed(asked.seed)
        calls = caught_calls(model, inputs, modules, partial(_chosen_rows, asked.num_sequences, asked.seed))
        if not calls:
            raise InputError(f"the model ran, but called none of its recurrences: {', '.join(modules)}")
        _check_sizes(calls)
        with _plain_float64():
            values: dict[str, dict[str, Any]] = {}
            for name, found in calls.items():
                for layer in _module_spectra(name, modules[name], found, asked):
                    key = f"{name}.l{layer.layer}{'.backward' if layer.backward else ''}"
                    values[key] = dataclasses.asdict(layer)
    if all(value["num_steps"] < 2 for value in values.values()):
        raise InputError(f"a spectrum needs at least 2 steps, and {', '.join(calls)} saw fewer: are the axes right?")
    return SpectrumRecord(asked.k, asked.seed, values, notes)


def _of_fewer(model: nn.Module, inputs: object, modules: dict[str, nn.Module], asked: _Asked) -> SpectrumRecord:
    """Of some of the sequences alone: the model itself is not run on the others.

    Raises:
        InputError: if there is no memory for one, or it is not known where the sequences lie.
    """
    try:
        axes, alone = settled_axes(model, inputs, None, None)
    except InputError as error:
        raise InputError(f"out of memory, and not known where to cut: {error}, or hand over fewer sequences") from error
    probe = Probe.of(inputs, None, axes, alone=alone)
    order = _drawn(asked.seed, probe.num_sequences)
    packed = isinstance(first_tensor(inputs), PackedSequence)  # it is not cut
    return of_fewer_if_need_be(
        lambda rows, notes: _record(model, probe.chosen(rows).inputs, modules, asked, notes),
        order,
        num_steps=probe.num_steps,
        fewest=order.numel() if packed else 1,
        most=asked.num_sequences,
    )


def _chosen_rows(num_sequences: int, seed: int, batch: int) -> Tensor:
    return _drawn(seed, batch)[:num_sequences].sort().values


def _drawn(seed: int, batch: int) -> Tensor:
    """All sequences of a batch, in the order in which they are taken."""
    return torch.randperm(batch, generator=torch.Generator().manual_seed(seed))


def _check_sizes(calls: dict[str, list[Call]]) -> None:
    for name, (first, *_) in calls.items():
        num_steps, batch = sum(len(piece) for piece in first.pieces), first.pieces[0].size(1)
        if not num_steps or not batch:
            raise InputError(f"{name} was given {batch} sequences of {num_steps} steps: hand over one of at least 2")


@contextmanager
def _plain_float64() -> Iterator[None]:
    """Without autocast, and with constants that a user's cell makes in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_default_dtype(before)


def _module_spectra(name: str, module: nn.Module, calls: list[Call], asked: _Asked) -> Iterator[LayerSpectrum]:
    """One for each layer and direction, in the order of the cells."""
    cells = _float64_cells(module)
    both_ways = bool(getattr(module, "bidirectional", False))
    with parametrize.cached():  # an orthogonal matrix is the exponential of another: once for all steps
        for index, run in enumerate(_trajectories(module, cells, calls[0])):
            about = LayerSpectrum(
                module=name,
                cell=type(run.cell).__name__,
                layer=index // 2 if both_ways else index,
                backward=both_ways and index % 2 == 1,
                state_size=run.state_size,
                num_sequences=int((run.counted >= 2).sum()),
                num_steps=run.num_steps,
                num_calls=len(calls),
            )
            yield _layer_spectrum(about, run, asked)


def _float64_cells(module: nn.Module) -> list[Cell]:
    """Copies of a module's cells: layer after layer, forward before backward."""
    if isinstance(module, Recurrent):
        cells = copy.deepcopy(module.cells)
    elif isinstance(module, nn.RNNBase):
        cells = Recurrent.from_torch(module).cells
    else:
        cells = nn.ModuleList([_cell_from_torch(cast(nn.RNNCellBase, module))])
    return [cast(Cell, cell) for cell in cells.to("cpu", torch.float64)]


def _cell_from_torch(module: nn.RNNCellBase) -> Cell:
    make: Callable[..., Cell]
    if isinstance(module, nn.LSTMCell):
        make = LSTM
    elif isinstance(module, nn.GRUCell):
        make = GRU
    else:
        make = partial(Elman, nonlinearity=cast(nn.RNNCell, module).nonlinearity)
    cell = make(module.input_size, module.hidden_size, bias=module.bias_ih is not None, init="torch")
    with torch.no_grad():
        for own, parameter in cell.named_parameters():
            parameter.copy_(getattr(module, own))
    return cell


def _trajectories(module: nn.Module, cells: list[Cell], call: Call) -> Iterator[Trajectory]:
    """The trajectory of each cell, the layers above driven by those below."""
    x, reset, lengths = torch.cat(call.pieces).double(), call.reset, call.lengths
    directions = 2 if getattr(module, "bidirectional", False) else 1
    dropout = float(getattr(module, "dropout", 0.0))
    for first in range(0, len(cells), directions):
        below, outputs = F.dropout(x, dropout, module.training) if first else x, []
        for index in range(first, first + directions):
            start = _start(call, cells[index], index, x.size(1))
            if index == first:
                run = trajectory(cells[index], below, start, reset, lengths)
                outputs.append(run.outputs)
            else:
                turned = None if reset is None else reverse_reset(reset, lengths)
                run = trajectory(cells[index], reverse_time(below, lengths), start, turned, lengths)
                outputs.append(reverse_time(run.outputs, lengths))
            yield run
        x = torch.cat(outputs, dim=-1)


def _start(call: Call, cell: Cell, index: int, batch: int) -> State:
    if call.start is None:
        return cell.initial_state(batch, device=torch.device("cpu"), dtype=torch.float64)
    return tuple(part[index].double() for part in call.start)


def _layer_spectrum(about: LayerSpectrum, run: Trajectory, asked: _Asked) -> LayerSpectrum:
    if not about.num_sequences:
        return dataclasses.replace(about, cannot_tell="no sequence has 2 steps")
    run = run.rows(run.counted >= 2)
    size = about.state_size
    infinite = _first_infinite(run)
    if infinite is not None:
        return dataclasses.replace(about, cannot_tell=f"the state is not finite from step {infinite} on")
    generator = torch.Generator().manual_seed(asked.seed)
    frame = torch.randn(about.num_sequences, size, min(asked.k, size), generator=generator)
    first = sweep(run.products(), torch.linalg.qr(frame).Q)
    counted = run.counted.tolist()
    found = estimate(first.logs, first.collapsed, [(int(_WARM_UP * length), length) for length in counted])
    units = saturation(run)
    told = dataclasses.replace(
        about,
        warm_up=_WARM_UP,
        exponents=found.exponents,
        exponent_errors=found.errors,
        spectral_radius=spectral_radius(run.cell),
        saturation=units.shares,
        saturation_by_step=units.by_step,
        stuck=units.stuck,
        functions=units.functions,
        means=units.means,
    )
    if asked.singular_values == "steps":
        return _with_steps(told, run, asked.k)
    return _with_singular_values(told, run, first, asked.k) if asked.singular_values else told


def _with_singular_values(about: LayerSpectrum, run: Trajectory, first: Sweep, k: int) -> LayerSpectrum:
    """Those of single steps, and of the product of all of them."""
    product, change = long_product(run.products, run.transposed, first)
    return dataclasses.replace(
        _with_steps(about, run, k),
        log10_singular_values=tuple(tuple(_log10(value) for value in row) for row in product.tolist()),
        log10_singular_value_change=change / math.log(10),
    )


def _with_steps(about: LayerSpectrum, run: Trajectory, k: int) -> LayerSpectrum:
    """Those of single steps."""
    quartiles, mean_square, num_jacobians = step_singular_values(run, min(k, about.state_size))
    return dataclasses.replace(
        about, step_singular_values=quartiles, step_mean_square=mean_square, num_jacobians=num_jacobians
    )


def _first_infinite(run: Trajectory) -> int | None:
    """The first step, if any, whose state before it is NaN or infinite in a sequence that has not ended."""
    for step in range(run.num_steps):
        state = flat([part[step] for part in run.before])
        if not bool(torch.isfinite(state[step < run.counted]).all()):
            return step
    return None


def _log10(nats: float) -> float | None:
    return None if nats == -math.inf else nats / math.log(10)
