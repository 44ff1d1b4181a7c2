"""Where a loss counts that is taken of the outputs of each sequence, and from which of the inputs its lags do.

Outputs may have another number of steps than the inputs (a stride, a pooling over time, a decoder). Which input each
of their steps came after is then tried out: lag 0 is the newest input that it hears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.probe import Axes, Probe

__all__ = ["Places", "places_of_other_steps"]

Replaced = Callable[[Tensor], Tensor]
"""(T, B) bool, where the inputs are to be other ones -> the model's outputs."""

_LITTLE, _MUCH = 0.25, 0.75
"""Shares of what an output owes to the newer half of the inputs: along an axis with both, places read different ones."""


@dataclass(frozen=True)
class Places:
    """Where a loss counts.

    Attributes:
        axes: of the losses, or of the outputs where the loss is one number; None for a loss of whole sequences.
        positions: (B,) along `axes.time`.
        newest: (B,) step of the inputs from which lags count.
    """

    axes: Axes | None
    positions: Tensor
    newest: Tensor


def places_of_other_steps(
    outputs: Tensor, told: Tensor, replaced: Replaced, probe: Probe, positions: Tensor, given: Axes | None
) -> Places | None:
    """Where outputs of another number of steps than the inputs count; None where they have no steps.

    Args:
        outputs: of the model.
        told: the losses, or the outputs where the loss is one number.
        replaced: runs the model on other inputs.
        probe: what the model is called with.
        positions: (B,) drawn among the steps of the inputs.
        given: where the user says that time and the sequences lie in `told`.

    Raises:
        InputError: if it cannot be known which axis is time, or after which input a step came.
    """
    batch = _batch_axis(outputs, probe)
    if batch is None:
        return None
    for axis, in_order in _axes_of_different_inputs(outputs, batch, replaced, probe).items():
        num_steps = outputs.size(axis)
        if given is None:
            lying = _lying(told, num_steps, probe.num_sequences, Axes(axis, batch))
        else:
            lying = given if told.size(given.time) == num_steps and (told.dim() < 3 or axis == given.time) else None
        if lying is None:
            continue  # the loss takes them together, or they are not what was meant
        if not in_order:
            break
        if given is None and (outputs.dim() < 3 or axis > 1):
            raise InputError(
                f"outputs of shape {tuple(outputs.shape)} hear other inputs at each place along axis {axis}: give "
                f"output_dims=({lying.time}, {lying.batch}) if that is time, or (-1, {lying.batch}) if there is none"
            )
        at = positions * num_steps // probe.num_steps
        return Places(lying, at, _newest_heard(outputs, Axes(axis, batch), at, replaced, probe))
    else:
        if given is None:
            return None
    raise InputError(
        f"outputs of shape {tuple(outputs.shape)} have other steps than the {probe.num_steps} of the inputs, and the "
        "first of them hear the newest inputs too (if through batch normalisation, call eval() first): it is not known "
        "from where lags count; give output_dims=(-1, sequences), and they count from the last input"
    )


def _axes_of_different_inputs(outputs: Tensor, batch: int, replaced: Replaced, probe: Probe) -> dict[int, bool]:
    """Axes of the outputs along which some places hear other inputs than others.

    True where the first of them hear none of the newer half of the inputs, so that an order can be told; False where
    all hear all, but some more of the older half and others more of the newer one.
    """
    newer_half = (torch.arange(probe.num_steps) >= probe.num_steps // 2).unsqueeze(1).expand(-1, probe.num_sequences)
    newer, older = (_change(outputs, replaced(half)) for half in (newer_half, ~newer_half))
    found = {}
    for axis in range(outputs.dim()):
        if axis == batch or outputs.size(axis) < 2:
            continue
        by_newer, by_older = (change.movedim(axis, 0).reshape(outputs.size(axis), -1).sum(1) for change in (newer, older))
        first = int((by_newer > 0).int().argmax())  # 0 where none does
        share = (by_newer / (by_newer + by_older))[by_newer + by_older > 0]
        if bool((by_older[:first] > 0).any()):
            found[axis] = True
        elif share.numel() and bool(share.min() < _LITTLE) and bool(share.max() > _MUCH):
            found[axis] = False
    return found


def _newest_heard(outputs: Tensor, axes: Axes, at: Tensor, replaced: Replaced, probe: Probe) -> Tensor:
    """(B,) the newest step of the inputs that the outputs at some positions depend on, by halving."""
    rows, steps = torch.arange(at.numel()), torch.arange(probe.num_steps).unsqueeze(1)

    def hears(from_step: Tensor) -> Tensor:
        change = _change(outputs, replaced(steps >= from_step))
        return change.movedim((axes.time, axes.batch), (0, 1))[at, rows].reshape(at.numel(), -1).any(1)

    heard, unheard = torch.zeros_like(at), torch.full_like(at, probe.num_steps)
    while bool((unheard - heard > 1).any()):
        middle = (heard + unheard) // 2
        does = hears(middle)
        heard, unheard = torch.where(does, middle, heard), torch.where(does, unheard, middle)
    return heard


def _change(intact: Tensor, now: Tensor) -> Tensor:
    """Squares of the differences, above 0 wherever there is one; in float64 on the CPU."""
    one, other = intact.to("cpu", torch.float64), now.to("cpu", torch.float64)
    size = (one - other).square().nan_to_num(nan=1.0, posinf=1.0)  # of numbers that are not finite
    return torch.where(one != other, size.clamp(min=torch.finfo(torch.float64).tiny), torch.zeros_like(one))


def _batch_axis(outputs: Tensor, probe: Probe) -> int | None:
    for axis in (probe.axes.batch, 0, 1):
        if axis < outputs.dim() and outputs.size(axis) == probe.num_sequences:
            return axis
    return None


def _lying(told: Tensor, num_steps: int, num_sequences: int, likely: Axes) -> Axes | None:
    """Where so many steps lie in the losses: as in the outputs, or in one of the two usual ways."""
    for axes in (likely, Axes(1, 0), Axes(0, 1)):
        if told.dim() > max(axes.time, axes.batch) and (told.size(axes.time), told.size(axes.batch)) == (
            num_steps,
            num_sequences,
        ):
            return axes
    return None
