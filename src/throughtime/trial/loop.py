"""The training loop for a patient that has none of its own, under a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.diagnosis.losses import averaged
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.axes import settled_axes
from throughtime.remedy import TreatmentPlan
from throughtime.trial.patient import Patient, option

__all__ = ["axis_of_time", "called", "cut_in_windows", "first_piece", "mean_loss", "shortened", "train"]

_SHORTEST = 0.1
"""Of the steps of a sequence, what a curriculum begins with."""


def train(
    patient: Patient,
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterator[tuple[Any, Any]],
    num_steps: int,
    plan: TreatmentPlan,
) -> None:
    """Make `num_steps` updates.

    Where sequences are cut into windows each window makes an update, and the state that the model returns, cut off
    from how it came about, goes into the next one.

    Args:
        patient: whose loss, window and axis of time.
        model: called with the inputs of a batch; with the state too where there is one to carry.
        optimizer: of its parameters.
        batches: (inputs, targets).
        num_steps: updates.
        plan: whose window, carry, batch factor and curriculum count; all else reaches the loop through hooks.

    Raises:
        InputError: if sequences cannot be cut.
    """
    carry = True if plan.carry is None else plan.carry
    gathered = plan.batch_factor or 1
    model.train()
    pieces = _pieces(patient, model, batches, num_steps, plan)
    for _ in range(num_steps):
        optimizer.zero_grad()
        for _ in range(gathered):
            inputs, targets, state = next(pieces)
            outputs, after = called(model, inputs, state.carried)
            torch.autograd.backward(mean_loss(patient, outputs, targets) / gathered)
            state.carried = _detached(after) if carry else None
        optimizer.step()


@dataclass
class _State:
    """What goes from window to window of one batch."""

    carried: Any = None


def _pieces(
    patient: Patient, model: nn.Module, batches: Iterator[tuple[Any, Any]], num_steps: int, plan: TreatmentPlan
) -> Iterator[tuple[Any, Any, _State]]:
    """Batches, or their windows one after the other."""
    window = plan.window or option(patient, "window")
    num_given, time_dim = 0, option(patient, "time_dim")
    while True:
        inputs, targets = next(batches)
        if time_dim is None and (window is not None or plan.curriculum):
            time_dim = axis_of_time(patient, model, inputs)
        if plan.curriculum:
            progress = num_given / (plan.curriculum * num_steps * (plan.batch_factor or 1))
            inputs, targets = shortened(inputs, targets, progress, time_dim or 0)
        state = _State()
        whole = [(inputs, targets)]
        for piece in whole if window is None else cut_in_windows(inputs, targets, window, time_dim or 0):
            num_given += 1
            yield (*piece, state)


def called(model: nn.Module, inputs: Any, state: Any = None) -> tuple[Any, Any]:
    """What a model returns, and the state in it, None where it returns none.

    Args:
        model: any.
        inputs: one argument, a tuple of arguments, or a mapping of named ones.
        state: an argument more, where there is one and arguments have no names.
    """
    further = () if state is None or isinstance(inputs, dict) else (state,)
    outputs = forward(model, inputs, *further)
    return outputs, outputs[1] if isinstance(outputs, tuple) and len(outputs) == 2 else None


def mean_loss(patient: Patient, outputs: Any, targets: Any) -> Tensor:
    """The loss as one number, the mean over targets that are not ignored; one that takes no state gets the output.

    Raises:
        InputError: if it is no tensor.
    """
    try:
        loss = patient.loss(outputs, targets)
    except (AttributeError, TypeError):
        if not isinstance(outputs, tuple):
            raise
        loss = patient.loss(outputs[0], targets)
    if not isinstance(loss, Tensor):
        raise InputError(f"loss(outputs, targets) must give a tensor, not {type(loss).__name__}")
    return averaged(loss, targets)


def axis_of_time(patient: Patient, model: nn.Module, inputs: Any) -> int:
    """As the patient says, or as the recurrent modules of its model read the inputs; 0 where these do not tell.

    Args:
        patient: that may have a `time_dim`.
        model: a copy of which is run.
        inputs: of a batch.
    """
    told: int | None = option(patient, "time_dim")
    if told is not None:
        return told
    try:
        return settled_axes(model, inputs, None, None)[0].time
    except InputError:
        return 0


def first_piece(patient: Patient, model: nn.Module, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """What the first update is made with as the patient is: a batch, or its first window.

    Raises:
        InputError: as `cut_in_windows`.
    """
    inputs, targets, _ = next(_pieces(patient, model, iter([(inputs, targets)]), 1, TreatmentPlan()))
    return inputs, targets


def cut_in_windows(inputs: Any, targets: Any, window: int, time_dim: int) -> list[tuple[Any, Any]]:
    """Sequences as stretches of `window` steps, from the first on.

    Raises:
        InputError: if inputs are no tensor, or targets have no axis of time.
    """
    _steps(inputs, targets, time_dim, "cut into windows")
    return list(zip(inputs.split(window, time_dim), targets.split(window, time_dim), strict=True))


def shortened(inputs: Any, targets: Any, progress: float, time_dim: int) -> tuple[Any, Any]:
    """The first steps of sequences: a fraction of them at the beginning of a curriculum, all of them from 1 on.

    *Reference*: Bengio, Louradour, Collobert & Weston 2009, doi:10.1145/1553374.1553380.

    Raises:
        InputError: if inputs or targets have no axis of time.
    """
    steps = _steps(inputs, targets, time_dim, "shortened for a curriculum")
    shortest = min(steps, max(2, round(_SHORTEST * steps)))
    length = min(steps, shortest + int(progress * (steps - shortest)))
    return inputs.narrow(time_dim, 0, length), targets.narrow(time_dim, 0, length)


def _detached(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach()
    return tuple(_detached(part) for part in state) if isinstance(state, tuple | list) else state


def _steps(inputs: Any, targets: Any, time_dim: int, what: str) -> int:
    """How long the axis of time is that inputs and targets share."""
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        raise InputError(f"only a batch of two tensors can be {what}: give the patient a `train` of its own")
    steps: int = inputs.shape[time_dim]
    if targets.dim() <= time_dim or targets.shape[time_dim] != steps:
        raise InputError(
            f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} share no axis of time {time_dim}: they "
            f"cannot be {what}; set time_dim, or give the patient a `train` of its own"
        )
    return steps
