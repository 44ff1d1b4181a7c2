"""Where the loss looks: its gradient by the outputs, and which target belongs to which output."""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.diagnosis.losses import IGNORED
from throughtime.diagnosis.trials import Trials
from throughtime.errors import InputError
from throughtime.measurement.probe import loss_gradient

__all__ = ["counted_gradient", "target_offset"]

_ALONE = 100
"""So many times the others: the gradient at the output that a target belongs to, when that target changes."""


def counted_gradient(trial: Trials) -> Tensor | None:
    """|d loss / d outputs|, like the outputs: 0 where the loss does not look; None where it cannot be had.

    Added up over outputs that are small, where no softmax is saturated, and over those of another sequence: where one
    fits its target by chance the other does not.
    """
    if trial.probe.targets is None:
        return None
    outputs = trial.intact
    small = outputs / outputs.abs().max().clamp(min=1.0)
    try:
        with torch.enable_grad():
            found = [
                loss_gradient(trial.loss, these, trial.probe.targets, 0).abs() for these in (small, small.roll(1, 0))
            ]
    except InputError:
        return None
    return found[0] + found[1]


def target_offset(trial: Trials) -> int | None:
    """D, where output t is compared with target t + d: 0 but for a loss that shifts; None where it is not one for one.

    One target in the middle of each sequence is changed, and the gradient by the outputs changes at one step.
    """
    given = trial.probe.targets
    targets = None if given is None else trial.steps_of(given)
    if given is None or targets is None:
        return None
    at = targets.size(0) // 2
    changed = given.clone(memory_format=torch.contiguous_format)
    view = trial.steps_of(changed)
    assert view is not None  # it has the shape of the targets
    view[at] = _another(targets, at)
    try:
        with torch.enable_grad():
            before = loss_gradient(trial.loss, trial.intact, given, 0)
            after = loss_gradient(trial.loss, trial.intact, changed, 0)
    except InputError:
        return None
    for moved in trial.layouts((after - before).abs()):
        by_step = moved.double().sum((1, 2)).cpu()
        step = int(by_step.argmax())
        rest = float(by_step.sum() - by_step[step])
        if by_step[step] > 0 and float(by_step[step]) >= _ALONE * rest:
            return at - step
    return None


def _another(targets: Tensor, at: int) -> Tensor:
    """Other targets for step `at`: of quantities larger ones, of classes each the next that occurs."""
    now = targets[at]
    if targets.is_floating_point():
        return now + targets.std().clamp(min=1e-6)
    kinds = torch.unique(targets[targets != IGNORED])
    if kinds.numel() < 2:
        return now
    index = torch.searchsorted(kinds, now.clamp(min=int(kinds[0])))
    return torch.where(now == IGNORED, now, kinds[(index + 1) % kinds.numel()])
