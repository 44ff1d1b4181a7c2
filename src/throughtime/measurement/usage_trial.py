"""The losses of a model with its older inputs taken from other sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement.arguments import replaced
from throughtime.measurement.model_check import out_of_memory
from throughtime.measurement.output_layout import axes_of_flattened, axes_of_sizes
from throughtime.measurement.probe import Axes, Probe, call, first_tensor, loss_gradient, loss_value
from throughtime.measurement.spectrum_calls import left_as_found
from throughtime.measurement.usage_places import Places, Placing

__all__ = ["Loss", "Trial"]

Loss = Callable[..., Any]

_MOST_PARTNERS = 16
"""Sequences that are asked for another input at a step, where a partner has the same (of few ids, say)."""


@dataclass(frozen=True)
class _Alone:
    """Where time and the sequences lie in outputs, targets and losses alike, and the targets of the positions."""

    axes: Axes
    targets: Tensor | None


@dataclass(frozen=True)
class Trial:
    """A model, data, and which sequence lends its inputs to which."""

    model: nn.Module
    probe: Probe
    loss: Loss
    output_dims: tuple[int, int] | None
    positions: Tensor
    lengths: Tensor
    partners: Tensor

    def among(self, rows: Tensor, partners: Tensor) -> Trial:
        """The same of some of the sequences, which lend their inputs to one another."""
        return replace(
            self,
            probe=self.probe.chosen(rows),
            positions=self.positions[rows],
            lengths=self.lengths[rows],
            partners=partners,
        )

    def losses(self, lag: int | None) -> Tensor:
        """(B,) losses with inputs older than `lag` replaced (-1: all of them), or intact."""
        return self._losses(self.probe.inputs if lag is None else self._without_older(lag))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of where the loss counts."""
        return (self._places.note,) if self._places.note else ()

    def check_time(self) -> None:
        """Where the shape of the outputs says little: what is taken for a step may be none if newer inputs change it.

        Raises:
            InputError: if so.
        """
        (outputs, _), axes = self._intact, self._places.axes
        if self.output_dims is not None or axes is None or (outputs.dim() > 2 and axes.time < 2):
            return
        newer = torch.arange(self.probe.num_steps).unsqueeze(1) > self._places.newest
        if not torch.equal(self._losses(self.probe.inputs), self._losses(self._lent(newer, self._others))):
            raise InputError(
                f"outputs of shape {tuple(outputs.shape)} depend on inputs of later steps: give output_dims=(time, "
                "sequences) if they have an axis of time, or (-1, sequences) if not"
            )

    def _losses(self, given: Any) -> Tensor:
        with left_as_found(self.model), torch.no_grad():
            outputs = call(self.model, given)
            if self._alone is not None:
                return self._of_positions(outputs, self._alone)
            value = self._value(outputs)
            if not value.dim():
                return self._one_by_one(outputs)
        axes = self._places.axes
        if axes is not None:
            value = _mean_of_each(self._at(self._apart(value), axes), axes)
        elif value.shape[:1] != (self.probe.num_sequences,):
            raise InputError(
                f"the loss has shape {tuple(value.shape)}: use needs one of each sequence, or of each step of each; "
                "give reduction='none'"
            )
        else:
            value = value.flatten(1).mean(1) if value.dim() > 1 else value
        return value.to("cpu", torch.float64)

    @cached_property
    def _intact(self) -> tuple[Tensor, Tensor]:
        """The model's outputs and their losses, on the inputs as they are."""
        outputs = self._outputs(self.probe.inputs)
        with torch.no_grad():
            return outputs, self._value(outputs)

    def _outputs(self, given: Any) -> Tensor:
        with left_as_found(self.model), torch.no_grad():
            return call(self.model, given)

    @cached_property
    def _places(self) -> Places:
        """Where the loss counts, and from where lags do: of whole sequences from their last steps."""
        outputs, value = self._intact
        given = self.output_dims
        if self._flat is not None:
            axes = axes_of_flattened(outputs, self.probe, self._flat)
            given = (axes.time, axes.batch)
        placing = Placing(
            probe=self.probe,
            outputs=self._apart(outputs),
            value=self._apart(value),
            replaced=lambda where: self._apart(self._outputs(self._lent(where, self._others))),
            losses=self._telling,
            of_steps=self._of_each_step,
            of_outputs=self._gradient,
            drawn=self.positions,
            lengths=self.lengths,
        )
        return placing.found(given)

    def _telling(self, where: Tensor | None) -> Tensor | None:
        """Losses with some inputs replaced, or the gradient of one number by the outputs: both tell where it counts."""
        outputs = self._intact[0] if where is None else self._outputs(self._lent(where, self._others))
        if self._intact[1].dim():
            with torch.no_grad():
                return self._apart(self._intact[1] if where is None else self._value(outputs))
        return self._gradient(outputs)

    def _gradient(self, outputs: Tensor | None = None) -> Tensor | None:
        """By the outputs, of the sum of the losses; None where there is none."""
        outputs = self._intact[0] if outputs is None else outputs
        try:
            with left_as_found(self.model), torch.inference_mode(False), torch.enable_grad():
                return self._apart(loss_gradient(self.loss, outputs.clone(), self.probe.targets, 0))
        except (InputError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            return None

    def _of_each_step(self, axes: Axes, where: Tensor | None) -> Tensor | None:
        """(T, B) losses of the steps, asked for as if each were a sequence of its own; None where that cannot be."""
        outputs = self._intact[0] if where is None else self._outputs(self._lent(where, self._others))
        targets, of_targets = self.probe.targets, axes
        if targets is not None:
            lying = axes_of_sizes(targets, outputs.size(axes.time), self.probe.num_sequences, axes)
            if lying is None:
                return None
            of_targets = lying
        try:
            with torch.no_grad():
                of_steps = None if targets is None else _as_sequences(targets, of_targets)
                value = loss_value(self.loss, _as_sequences(outputs, axes), of_steps)
        except InputError as error:
            if out_of_memory(error):
                raise
            return None
        num_both = outputs.size(axes.time) * self.probe.num_sequences
        if not isinstance(value, Tensor) or value.shape != (num_both,) or bool(value.isinf().any()):
            return None
        value = value.nan_to_num()  # the mean over the targets of a step that has none to count
        return value.to("cpu", torch.float64).view(outputs.size(axes.time), self.probe.num_sequences)

    @property
    def _flat(self) -> int | None:
        """The axis that holds time and sequences, where the user says so."""
        given = self.output_dims
        return given[0] if given is not None and given[0] == given[1] >= 0 else None

    def _apart(self, tensor: Tensor) -> Tensor:
        """Time and sequences in axes of their own, where one holds both."""
        num_both, flat = self.probe.num_steps * self.probe.num_sequences, self._flat
        if flat is None or tensor.dim() <= flat or tensor.size(flat) != num_both:
            return tensor
        return self.probe.unflattened(tensor, flat)

    @cached_property
    def _alone(self) -> _Alone | None:
        """Where the positions that count can be asked for their losses alone, which gives the same; None where not.

        A softmax over many words takes longer than the model, and one position of each sequence is wanted. That the
        loss of a position is its own is tried out on the inputs as they are.
        """
        outputs, value = self._intact
        targets, of_loss = self.probe.targets, self._places.axes
        if self._places.each_step and of_loss is not None:
            return _Alone(of_loss, None if targets is None else self._at(targets, self._lying(targets, of_loss)))
        if not value.dim() or not isinstance(targets, Tensor) or of_loss is None or self._flat is not None:
            return None
        sizes = (value.size(of_loss.time), self.probe.num_sequences)
        for tensor in (outputs, targets):
            if tensor.dim() <= max(of_loss.time, of_loss.batch):
                return None
            if (tensor.size(of_loss.time), tensor.size(of_loss.batch)) != sizes:
                return None
        alone = _Alone(of_loss, self._at(targets, of_loss))
        try:
            with torch.no_grad():
                found = self._of_positions(outputs, alone)
        except InputError as error:
            if out_of_memory(error):
                raise
            return None
        known = _mean_of_each(self._at(value, of_loss), of_loss)
        return alone if torch.allclose(found, known, rtol=1e-5, atol=1e-7) else None

    def _of_positions(self, outputs: Tensor, alone: _Alone) -> Tensor:
        """(B,) losses at the positions that count."""
        value = self._value(self._at(outputs, alone.axes), alone.targets)
        if self._places.each_step:
            return value.to("cpu", torch.float64)
        if value.dim() <= max(alone.axes.time, alone.axes.batch) or value.size(alone.axes.time) != 1:
            raise InputError("the loss of one step has no axis of time")
        return _mean_of_each(value, alone.axes)

    def _at(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The position of each sequence that counts, as a tensor of one step."""
        rows = torch.arange(self.probe.num_sequences, device=tensor.device)
        moved = tensor.movedim((axes.time, axes.batch), (0, 1))
        return (
            moved[self._places.positions.to(tensor.device), rows].unsqueeze(0).movedim((0, 1), (axes.time, axes.batch))
        )

    def _lying(self, targets: Tensor, axes: Axes) -> Axes:
        """Where time and the sequences lie in targets whose outputs have them along these axes."""
        return axes_of_sizes(targets, self.probe.num_steps, self.probe.num_sequences, axes) or axes

    def _one_by_one(self, outputs: Tensor) -> Tensor:
        """(B,) losses where the loss is one number: of what belongs to each sequence's position, or to a sequence."""
        places, found = self._places, []
        if places.axes is None and outputs.shape[:1] != (self.probe.num_sequences,):
            raise InputError(
                f"the loss is one number, and outputs of shape {tuple(outputs.shape)} are not one for each sequence: "
                "use needs a loss for each; give reduction='none'"
            )
        num_steps = 0 if places.axes is None else self._apart(outputs).size(places.axes.time)
        for row, position in enumerate(places.positions.tolist()):
            targets = self.probe.targets
            targets = targets if targets is None else self._one(targets, num_steps, position, row)
            value = self._value(self._one(outputs, num_steps, position, row), targets)
            found.append(value.to("cpu", torch.float64).mean())
        return torch.stack(found)

    def _one(self, tensor: Tensor, num_steps: int, position: int, row: int) -> Tensor:
        """What belongs to a position of a sequence, or to a sequence, with all axes that the tensor has."""
        axes = self._places.axes
        if axes is None:
            return _cut(tensor, [(0, row)])
        apart = self._apart(tensor)  # targets may lie otherwise than outputs with time behind the classes
        lying = axes_of_sizes(apart, num_steps, self.probe.num_sequences, axes) or axes
        cut = _cut(apart, [(lying.time, position), (lying.batch, row)])
        return cut if apart is tensor or self._flat is None else cut.flatten(self._flat, self._flat + 1)

    def _value(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        targets = self.probe.targets if targets is None else targets
        value = loss_value(self.loss, outputs, targets)
        if not isinstance(value, Tensor):
            raise InputError(f"the loss gives {type(value).__name__}: use needs a tensor")
        if not bool(value.isfinite().all()):
            raise InputError("the loss is not finite on these inputs: nothing can be compared")
        return value

    def _without_older(self, lag: int) -> Any:
        """What the model is called with, older inputs than `lag` before the position taken from the partners."""
        steps = torch.arange(self.probe.num_steps).unsqueeze(1)
        return self._lent(steps < self._places.newest - lag)  # -1: the newest too

    @cached_property
    def _time_first(self) -> Tensor:
        x: Tensor = first_tensor(self.probe.inputs)
        return x.movedim((self.probe.axes.time, self.probe.axes.batch), (0, 1))

    @cached_property
    def _others(self) -> Tensor:
        """The partners' inputs, time first; where these are the same, those of a sequence that has another one."""
        own = self._time_first
        other = own[:, self.partners.to(own.device)]
        for shift in range(1, min(self.probe.num_sequences, _MOST_PARTNERS)):
            same = (other == own).reshape(*own.shape[:2], -1).all(2)
            if not bool(same.any()):
                break
            other = torch.where(same.view(*same.shape, *[1] * (own.dim() - 2)), own.roll(shift, 1), other)
        return other

    def _lent(self, where: Tensor, others: Tensor | None = None) -> Any:
        """The inputs, those at some steps (T, B) taken from others: the partners' unless given."""
        own, axes = self._time_first, self.probe.axes
        lent = own[:, self.partners.to(own.device)] if others is None else others
        mixed = torch.where(where.to(own.device).view(*where.shape, *[1] * (own.dim() - 2)), lent, own)
        return replaced(
            self.probe.inputs, first_tensor(self.probe.inputs), mixed.movedim((0, 1), (axes.time, axes.batch))
        )


def _as_sequences(tensor: Tensor, axes: Axes) -> Tensor:
    """Every step of every sequence as a sequence of one step: (1, T * B, ...) if time lies first."""
    folded = tensor.movedim((axes.time, axes.batch), (0, 1)).flatten(0, 1).unsqueeze(0)
    return folded.movedim((0, 1), (axes.time, axes.batch))


def _mean_of_each(value: Tensor, axes: Axes) -> Tensor:
    """(B,) of losses with one step, the mean over whatever other axes they have."""
    at = value.movedim((axes.time, axes.batch), (0, 1))[0]
    return (at.flatten(1).mean(1) if at.dim() > 1 else at).to("cpu", torch.float64)


def _cut(tensor: Tensor, cuts: list[tuple[int, int]]) -> Tensor:
    """One index of each of some axes, which stay, of size 1."""
    for axis, index in cuts:
        if tensor.dim() <= axis or tensor.size(axis) <= index:
            raise InputError(
                f"the loss is one number, and targets of shape {tuple(tensor.shape)} cannot be cut as the outputs are: "
                "use needs a loss for each sequence; give reduction='none'"
            )
        tensor = tensor.narrow(axis, index, 1)
    return tensor
