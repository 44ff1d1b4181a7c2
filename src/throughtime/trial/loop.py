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
from throughtime.remedy import TreatmentPlan
from throughtime.trial.patient import Patient, option

__all__ = ["called", "cut_in_windows", "mean_loss", "shortened", "train"]

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
    pieces = _pieces(patient, batches, num_steps, plan)
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
    patient: Patient, batches: Iterator[tuple[Any, Any]], num_steps: int, plan: TreatmentPlan
) -> Iterator[tuple[Any, Any, _State]]:
    """Batches, or their windows one after the other."""
    window = plan.window or option(patient, "window")
    num_given = 0
    while True:
        inputs, targets = next(batches)
        if plan.curriculum:
            progress = num_given / (plan.curriculum * num_steps * (plan.batch_factor or 1))
            inputs, targets = shortened(inputs, targets, progress, patient)
        state = _State()
        for piece in [(inputs, targets)] if window is None else cut_in_windows(inputs, targets, window, patient):
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


def cut_in_windows(inputs: Any, targets: Any, window: int, patient: Patient) -> list[tuple[Any, Any]]:
    """Sequences as stretches of `window` steps, from the first on.

    Raises:
        InputError: if inputs are no tensor, or targets have no axis of time.
    """
    time_dim, _ = _time_axis(inputs, targets, patient, "cut into windows")
    return list(zip(inputs.split(window, time_dim), targets.split(window, time_dim), strict=True))


def shortened(inputs: Any, targets: Any, progress: float, patient: Patient) -> tuple[Any, Any]:
    """The first steps of sequences: a fraction of them at the beginning of a curriculum, all of them from 1 on.

    *Reference*: Bengio, Louradour, Collobert & Weston 2009, doi:10.1145/1553374.1553380.

    Raises:
        InputError: if inputs or targets have no axis of time.
    """
    time_dim, steps = _time_axis(inputs, targets, patient, "shortened for a curriculum")
    shortest = min(steps, max(2, round(_SHORTEST * steps)))
    length = min(steps, shortest + int(progress * (steps - shortest)))
    return inputs.narrow(time_dim, 0, length), targets.narrow(time_dim, 0, length)


def _detached(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach()
    return tuple(_detached(part) for part in state) if isinstance(state, tuple | list) else state


def _time_axis(inputs: Any, targets: Any, patient: Patient, what: str) -> tuple[int, int]:
    """The axis of time that inputs and targets share, and its length."""
    time_dim = option(patient, "time_dim") or 0
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        raise InputError(f"only a batch of two tensors can be {what}: give the patient a `train` of its own")
    steps = inputs.shape[time_dim]
    if targets.dim() <= time_dim or targets.shape[time_dim] != steps:
        raise InputError(
            f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} share no axis of time {time_dim}: they "
            f"cannot be {what}; set time_dim, or give the patient a `train` of its own"
        )
    return time_dim, steps
