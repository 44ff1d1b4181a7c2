"""Where a loss counts that is taken of the outputs of each sequence, and from which of the inputs its lags do.

Outputs may have another number of steps than the inputs (a stride, a pooling over time, a decoder). Which input each
of their steps came after is then tried out: lag 0 is the newest input that it hears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.output_layout import axes_of_sizes, output_axes
from throughtime.measurement.positions import counted_positions
from throughtime.measurement.probe import Axes, Probe

__all__ = ["Places", "Placing"]

_LITTLE, _MUCH = 0.25, 0.75
"""Of what an output owes to the newer half of the inputs: along an axis with both, places read different ones."""


@dataclass(frozen=True)
class Places:
    """Where a loss counts.

    Attributes:
        axes: of the losses, or of the outputs where the loss is one number; None for a loss of whole sequences.
        positions: (B,) along `axes.time`.
        newest: (B,) step of the inputs from which lags count.
        each_step: whether the loss of a sequence is the mean or the sum over its steps, each of which can be asked for.
        note: what a reader should know; empty for most.
    """

    axes: Axes | None
    positions: Tensor
    newest: Tensor
    each_step: bool = False
    note: str = ""


@dataclass(frozen=True)
class Placing:
    """All that it takes to find the places out.

    Attributes:
        probe: what the model is called with.
        outputs: of the model; time and sequences apart.
        value: the losses, likewise.
        replaced: (T, B) bool, where the inputs are to be other ones -> the outputs.
        losses: the same inputs, or None for the intact ones -> the losses, or the gradient by the outputs of a loss
            that is one number; None where there is none.
        of_steps: where steps and sequences lie in the outputs, and the same inputs or None -> (T, B) what the loss
            gives for each step alone; None where it cannot be asked for them.
        of_outputs: the gradient by the outputs of the losses' sum; None where there is none.
        drawn: (B,) positions among the steps of the inputs.
        lengths: (B,).
    """

    probe: Probe
    outputs: Tensor
    value: Tensor
    replaced: Callable[[Tensor], Tensor]
    losses: Callable[[Tensor | None], Tensor | None]
    of_steps: Callable[[Axes, Tensor | None], Tensor | None]
    of_outputs: Callable[[], Tensor | None]
    drawn: Tensor
    lengths: Tensor

    def found(self, given: tuple[int, int] | None) -> Places:
        """The places: of losses of whole sequences, which count from their last steps, where nothing else is seen.

        Args:
            given: `output_dims` of the user, or where they lie now in what was flattened.

        Raises:
            InputError: if it cannot be known which axis is time, or after which input a step of the outputs came.
        """
        whole = Places(None, self.drawn, self.lengths - 1)
        num_both = self.probe.num_steps * self.probe.num_sequences
        if self.value.shape == (num_both,) and self.outputs.size(0) != num_both:
            raise InputError(
                f"the losses have shape {tuple(self.value.shape)}, and the outputs {tuple(self.outputs.shape)}: let "
                "the loss return them with the axes of the outputs"
            )
        if given is None:
            axes = output_axes(self.value if self.value.dim() else self.outputs, self.probe, None)
            if axes is not None:
                at = self._counted(axes, self.probe.num_steps)
                return Places(axes, at, at)
            if self.value.dim() != 1:
                return self._of_other_steps() or whole
            axes = axes_of_sizes(self.outputs, self.probe.num_steps, self.probe.num_sequences, self.probe.axes)
            return whole if axes is None else self._of_sequences(axes, whole)
        told = output_axes(self.outputs, self.probe, given)
        axes = None if told is None else self._in_losses(told)
        if told is not None and axes is None and self.outputs.size(told.time) == self.probe.num_steps:
            return self._of_sequences(told, whole)
        if told is None or axes is None:
            return whole
        num_steps = self.outputs.size(told.time)
        at = self._counted(axes, num_steps)
        if num_steps == self.probe.num_steps:
            return Places(axes, at, at)
        if not self._axes_of_different_inputs(told.batch).get(told.time, False):
            raise self._unknown()
        return Places(axes, at, self._newest_heard(told, at))

    def _of_sequences(self, axes: Axes, whole: Places) -> Places:
        """Of one loss for each sequence, from outputs with steps: which of them count, if that can be told apart."""
        each = self.of_steps(axes, None)
        if each is not None and _adds_up_to(each, self.value):
            lying = replace(self, losses=lambda where: self.of_steps(axes, where))
            at = lying._counted(Axes(0, 1), self.probe.num_steps)
            return Places(axes, at, at, each_step=True)
        gradient = self.of_outputs()
        if gradient is not None:
            moved = gradient.movedim((axes.time, axes.batch), (0, 1))
            counts = moved.ne(0).reshape(*moved.shape[:2], -1).any(2).cpu()
            if bool((counts.sum(0) == 1).all()):
                return replace(whole, newest=counts.int().argmax(0))
        if self.outputs.dim() < 3:  # it may be that these are no steps
            return whole
        note = "the loss takes the steps of a sequence together and is no mean of theirs: lags count from the last one"
        return replace(whole, note=note)

    def _of_other_steps(self) -> Places | None:
        """Of outputs with another number of steps than the inputs, if some places hear other inputs than others."""
        batch = self.probe.axis_of_sequences(self.outputs)
        if batch is None:
            return None
        for axis, in_order in self._axes_of_different_inputs(batch).items():
            told = Axes(axis, batch)
            lying = self._in_losses(told)
            if lying is None:
                continue  # the loss takes them together
            if not in_order:
                raise self._unknown()
            if self.outputs.dim() < 3 or axis > 1:
                raise InputError(
                    f"outputs of shape {tuple(self.outputs.shape)} hear other inputs at each place along axis {axis}: "
                    f"give output_dims=({axis}, {batch}) if that is time, or (-1, {batch}) if there is none"
                )
            at = self._counted(lying, self.outputs.size(axis))
            return Places(lying, at, self._newest_heard(told, at))
        return None

    def _unknown(self) -> InputError:
        return InputError(
            f"outputs of shape {tuple(self.outputs.shape)} have other steps than the {self.probe.num_steps} of the "
            "inputs, and the first of them hear the newest inputs too (if through batch normalisation, call eval() "
            "first): it is not known from where lags count; give output_dims=(-1, sequences), and they count from the "
            "last input"
        )

    def _counted(self, axes: Axes, num_steps: int) -> Tensor:
        """The drawn positions; where there is no loss at one (a target of -100, say), the nearest where there is.

        There is none where it is zero for other inputs too: what is got right is no reason to look elsewhere.
        """
        at = self.drawn * num_steps // self.probe.num_steps
        intact = self.losses(None)
        if intact is None:
            return at
        of_drawn = intact.movedim((axes.time, axes.batch), (0, 1))[at, torch.arange(at.numel())]
        if bool(of_drawn.reshape(at.numel(), -1).any(1).all()):
            return at
        other = self.losses(torch.ones(self.probe.num_steps, self.probe.num_sequences, dtype=torch.bool))
        return at if other is None else counted_positions(intact.ne(0) | other.ne(0), axes, at)

    def _in_losses(self, told: Axes) -> Axes | None:
        """Axes of the outputs, in the losses."""
        if not self.value.dim():
            return told
        return axes_of_sizes(self.value, self.outputs.size(told.time), self.probe.num_sequences, told)

    def _axes_of_different_inputs(self, batch: int) -> dict[int, bool]:
        """Axes of the outputs along which some places hear other inputs than others.

        True where the first of them hear none of the newer half of the inputs, so that an order can be told; False
        where all hear all, but some more of the older half and others more of the newer one.
        """
        num_steps = self.probe.num_steps
        newer = (torch.arange(num_steps) >= num_steps // 2).unsqueeze(1).expand(-1, self.probe.num_sequences)
        changes = [_change(self.outputs, self.replaced(half)) for half in (newer, ~newer)]
        found = {}
        for axis, size in enumerate(self.outputs.shape):
            if axis == batch or size < 2:
                continue
            by_newer, by_older = (change.movedim(axis, 0).reshape(size, -1).sum(1) for change in changes)
            first = int((by_newer > 0).int().argmax())  # 0 where none does
            share = (by_newer / (by_newer + by_older))[by_newer + by_older > 0]
            if bool((by_older[:first] > 0).any()):
                found[axis] = True
            elif share.numel() and bool(share.min() < _LITTLE) and bool(share.max() > _MUCH):
                found[axis] = False
        return found

    def _newest_heard(self, told: Axes, at: Tensor) -> Tensor:
        """(B,) the newest step of the inputs that the outputs at some positions depend on, by halving."""
        rows, steps = torch.arange(at.numel()), torch.arange(self.probe.num_steps).unsqueeze(1)
        heard, unheard = torch.zeros_like(at), torch.full_like(at, self.probe.num_steps)
        while bool((unheard - heard > 1).any()):
            middle = (heard + unheard) // 2
            change = _change(self.outputs, self.replaced(steps >= middle))
            does = change.movedim((told.time, told.batch), (0, 1))[at, rows].reshape(at.numel(), -1).any(1)
            heard, unheard = torch.where(does, middle, heard), torch.where(does, unheard, middle)
        # What a place hears may be zero in one sequence (a ReLU, say); a later place hears no less than an earlier one.
        return torch.where(at <= at.unsqueeze(1), heard, 0).amax(1)


def _adds_up_to(each: Tensor, value: Tensor) -> bool:
    """Whether losses (B,) are the mean, the mean of those that count, or the sum over the steps (T, B)."""
    total, known = each.sum(0), value.to("cpu", torch.float64)
    counted = each.ne(0).sum(0).clamp(min=1)
    return any(torch.allclose(total / by, known, rtol=1e-4, atol=1e-7) for by in (each.size(0), counted, 1))


def _change(intact: Tensor, now: Tensor) -> Tensor:
    """Squares of the differences, above 0 wherever there is one; in float64 on the CPU."""
    one, other = intact.to("cpu", torch.float64), now.to("cpu", torch.float64)
    size = (one - other).square().nan_to_num(nan=1.0, posinf=1.0)  # of numbers that are not finite
    return torch.where(one != other, size.clamp(min=torch.finfo(torch.float64).tiny), torch.zeros_like(one))
