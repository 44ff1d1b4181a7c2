"""A plan applied to a model and its optimizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from throughtime.cell import LRU, Cell, Elman, SkipInTime, StateNorm, cells, make_cell
from throughtime.check import nearest, one_of
from throughtime.errors import RecipeError
from throughtime.remedy.auxiliary import attach_auxiliary_loss
from throughtime.remedy.hand_written import redraw_hand_written, scale_hand_written
from throughtime.remedy.hooking import (
    KeepGraph,
    ScaleRecurrence,
    StandardiseInputs,
    argument_names,
    outer_recurrences,
    raise_dropout,
)
from throughtime.remedy.noising import NoisyInputs
from throughtime.remedy.optimizing import (
    adam_for,
    add_missing_parameters,
    exchange_parameters,
    reset_after_step,
    set_learning_rate,
    set_weight_decay,
)
from throughtime.remedy.replacement import CellFactory, ReplacedCell, ReplacedLayers
from throughtime.remedy.starting import (
    critical_start,
    forget_gate_start,
    fresh_start,
    identity_start,
    orthogonal_start,
)

if TYPE_CHECKING:
    from throughtime.remedy.plan import TreatmentPlan

__all__ = ["applied", "ring_radii", "starts_itself"]

_RING_LEFT = 0.5
"""Share of the gradient that the slowest units of a ring keep over the lag it prepares for."""

_MAX_LAG = 100
"""The lag that "chrono" prepares for unless it is given."""

_LAGGED = ("chrono", "long")
"""Starts that prepare for a lag."""


def applied(plan: TreatmentPlan, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """See `TreatmentPlan.apply`."""
    if plan.all_parameters:
        add_missing_parameters(model, optimizer)
    if plan.fresh:
        fresh_start(model)
    if plan.cell is not None or plan.layer_norm or plan.skip is not None:
        model = _replaced(plan, model, optimizer)
    replaced = plan.cell is not None and starts_itself(plan.cell, plan.start) and plan.start != "ring"
    if plan.start is not None and not replaced:
        _started(plan, model)
    _hooked(plan, model)
    if plan.auxiliary is not None and not attach_auxiliary_loss(
        model, optimizer, plan.auxiliary, plan.auxiliary_steps or 1
    ):
        raise RecipeError("an auxiliary loss needs a recurrent layer, and this model has none")
    if plan.adam:
        optimizer = adam_for(optimizer)
    if plan.learning_rate is not None:
        set_learning_rate(optimizer, plan.learning_rate)
    if plan.weight_decay is not None:
        set_weight_decay(optimizer, plan.weight_decay)
    if plan.reset_gradients:
        reset_after_step(optimizer)
    return model, optimizer


def ring_radii(lag: int) -> tuple[float, float]:
    """The least and the largest |lambda| of a ring for a lag: half of the gradient of the slowest units is left there.

    Example:
        >>> [round(radius, 4) for radius in ring_radii(100)]
        [0.9, 0.9931]
    """
    largest = _RING_LEFT ** (1 / max(lag, 2))
    return min(0.9, largest**2), largest


def _started(plan: TreatmentPlan, model: nn.Module) -> None:
    """Raises RecipeError where nothing could be drawn anew."""
    assert plan.start is not None
    starts: dict[str, Callable[[], int]] = {
        "orthogonal": partial(orthogonal_start, model, plan.start_gain),
        "identity": partial(identity_start, model, plan.start_gain),
        "critical": partial(critical_start, model, plan.start_gain),
        "ring": partial(_ring, model, plan.start_steps),
    }
    lag = plan.start_steps or _MAX_LAG
    gates = partial(forget_gate_start, model, plan.start, lag)
    count = starts.get(plan.start, gates)()
    count += redraw_hand_written(model, plan.hand_written, plan.start, plan.start_gain, lag)
    if not count:
        raise RecipeError(
            f"the start '{plan.start}' fits nothing recurrent in this model: leave it, or change the cell"
        )


def _ring(model: nn.Module, lag: int | None) -> int:
    """Draw the linear recurrent units of a model anew.

    Departure from the cell: their |lambda|^2 are spaced evenly over the ring instead of drawn by chance, so that small
    layers too have the reach that is predicted.
    """
    units = [module for module in model.modules() if isinstance(module, LRU)]
    for unit in units:
        if lag is not None:
            unit.r_min, unit.r_max = ring_radii(lag)
        unit.reset_parameters()
        with torch.no_grad():
            like = unit.log_decay
            share = (torch.randperm(len(like)).to(like) + 0.5) / len(like)
            squares = unit.r_min**2 + (unit.r_max**2 - unit.r_min**2) * share
            unit.log_gain.copy_(torch.log1p(-squares) / 2)
            like.copy_(torch.log(-torch.log(squares) / 2))
    return len(units)


def _replaced(plan: TreatmentPlan, model: nn.Module, optimizer: Optimizer) -> nn.Module:
    """Every recurrent module replaced; the same object wherever the same one stood."""
    new: dict[nn.Module, nn.Module] = {}
    for old in list(outer_recurrences(model)):
        factory = _factory(plan, old)
        made = ReplacedCell(old, factory) if isinstance(old, nn.RNNCellBase) else ReplacedLayers(old, factory)
        like = next(old.parameters())
        made.to(like.device, like.dtype).train(old.training)
        if not any(p.requires_grad for p in old.parameters()):
            made.requires_grad_(False)
        exchange_parameters(optimizer, list(old.parameters()), list(made.parameters()))
        new[old] = made
    if not new:
        raise RecipeError("this model has no recurrent module that could get another cell: its recurrence is its own")
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in new:
                setattr(parent, name, new[child])
    return new.get(model, model)


def _factory(plan: TreatmentPlan, old: nn.Module) -> CellFactory:
    """What makes the cells; a start that the cell has by name is its own business, the others are drawn afterwards."""
    name = plan.cell or _name_of(old)
    name = "layer-norm-lstm" if plan.layer_norm and name == "lstm" else name
    start = plan.start if starts_itself(name, plan.start) else None

    def made(input_size: int, hidden_size: int) -> Cell:
        cell: Any = make_cell(name, input_size, hidden_size, init=start)
        if isinstance(cell, LRU) and plan.start_steps is not None:
            cell.r_min, cell.r_max = ring_radii(plan.start_steps)
        elif start in _LAGGED and plan.start_steps is not None:
            cell.max_lag = max(plan.start_steps, 2)
        cell.reset_parameters()
        if plan.layer_norm and name != "layer-norm-lstm":
            cell = StateNorm(cell)
        return cell if plan.skip is None else SkipInTime(cell, steps=max(plan.skip, 2))

    return made


def starts_itself(cell: str, start: str | None) -> bool:
    """Whether a named cell has a start of this name."""
    return start is not None and any(info.name == cell and start in info.inits for info in cells())


def _name_of(old: nn.Module) -> str:
    """Of the cell that computes what a module computes, up to the start.

    Raises:
        RecipeError: if it has no name.
    """
    if isinstance(old, (nn.LSTM, nn.LSTMCell)):
        return "lstm"
    if isinstance(old, (nn.GRU, nn.GRUCell)):
        return "gru"
    cell: Any = next((module for module in old.modules() if isinstance(module, Cell)), None)
    if isinstance(old, (nn.RNN, nn.RNNCell)) or isinstance(cell, Elman):
        return "elman-relu" if getattr(cell or old, "nonlinearity", "tanh") == "relu" else "elman"
    for info in cells():
        if type(make_cell(info.name, 2, 2)) is type(cell):
            return info.name
    raise RecipeError(f"{type(cell or old).__name__} is no named cell: name one in plan.cell ({nearest('', _names())})")


def _names() -> list[str]:
    return [info.name for info in cells()]


def _hooked(plan: TreatmentPlan, model: nn.Module) -> None:
    """What stands before and behind modules.

    Raises:
        RecipeError: where there is nothing that it could stand at.
    """
    if plan.keep_graph:
        KeepGraph(model)
    if plan.dropout is not None:
        raise_dropout(model, plan.dropout)
    if plan.recurrent_gain is not None or plan.recurrent_input_gain is not None:
        gains = (plan.recurrent_gain or 1.0, plan.recurrent_input_gain or 1.0)
        scaled = [ScaleRecurrence(module, *gains) for module in outer_recurrences(model)]
        if not scaled and not scale_hand_written(model, plan.hand_written, gains[0]):
            raise RecipeError("a gain of the recurrence needs recurrent modules, and this model has none")
    if plan.input_mean is not None or plan.input_deviation is not None:
        mean, deviation = plan.input_mean or (0.0,), plan.input_deviation or (1.0,)
        model.register_forward_pre_hook(StandardiseInputs(mean, deviation, plan.clip_outliers), with_kwargs=True)
    for name, mean, deviation in plan.other_inputs:
        one_of("argument of the model", name, argument_names(model))
        hook = StandardiseInputs(mean, deviation, plan.clip_outliers, name)
        model.register_forward_pre_hook(hook, with_kwargs=True)
    if plan.input_noise is not None:
        model.register_forward_pre_hook(NoisyInputs(plan.input_noise), with_kwargs=True)
