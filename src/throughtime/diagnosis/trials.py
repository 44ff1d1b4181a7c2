"""Trials: a copy of the model in eval mode, called with some inputs replaced by those of another sequence.

What does not see an input gives bitwise the same numbers whatever that input is, as long as all shapes stay as they
are. So a dependence is proved by replacing, and a mask of dependences needs no gradient and no float64.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.losses import Loss, first_output
from throughtime.errors import InputError
from throughtime.measurement.arguments import each_argument, forward, own, replaced, tensors_among
from throughtime.measurement.model_copy import copied
from throughtime.measurement.positions import settled_lengths
from throughtime.measurement.probe import Axes, Probe, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["SEEN", "Trials", "are_lengths", "change", "lengths_of", "trials"]

SEEN = 1e-4
"""A change of an output, relative to what replacing everything does, above which it depends on what was replaced.

Round-off alone stays at 1e-6, and only where shapes depend on values; what is not seen changes nothing at all."""

_MOST_SEQUENCES = 16
"""Of a larger batch so many are enough: each is a trial of its own."""


@dataclass(frozen=True)
class Trials:
    """What a model does to inputs that were tampered with.

    Attributes:
        model: a copy of its own, in eval mode.
        probe: some of the batch.
        lengths: (B,) of these sequences, or None where all are as long as the inputs.
        loss: of the case.
        intact: the outputs on the inputs as they are.

    Where the outputs do not move with the inputs at all, or are not finite, the weights are drawn anew: wiring is no
    matter of weights.
    """

    model: nn.Module
    probe: Probe
    lengths: Tensor | None
    loss: Loss
    intact: Tensor

    @property
    def sizes(self) -> tuple[int, int]:
        """T and B."""
        return self.probe.num_steps, self.probe.num_sequences

    def outputs(self, inputs: Any) -> Tensor:
        """The first output, from the same weights, buffers, attributes and random numbers at each call.

        Raises:
            Missing: if the model refuses such inputs.
        """
        return _outputs(self.model, inputs)

    def redrawn(self) -> Trials:
        """The same with weights drawn anew, of an ordinary size: what holds of both holds of the wiring.

        With units that are dead, gates that are shut or a last layer that begins at zero, an output does not move
        though there is a way.
        """
        model = copy.deepcopy(self.model)
        generator = torch.Generator().manual_seed(0)
        for weight in model.parameters():
            if weight.requires_grad and weight.is_floating_point():
                scale = weight.size(-1) ** -0.5 if weight.dim() > 1 else 0.1
                drawn = torch.randn(weight.shape, generator=generator) * scale
                weight.data.copy_(drawn + (1.0 if weight.dim() == 1 and bool((weight == 1).all()) else 0.0))
        return replace(self, model=model, intact=_outputs(model, self.probe.inputs))

    def static(self) -> list[Tensor]:
        """The tensors among the inputs that have one row for each sequence and no time; lengths and masks left out."""
        batch = self.sizes[1]
        lying = {id(value) for value in self.aligned()}
        return [
            value
            for value in tensors_among(self.probe.inputs)
            if id(value) not in lying
            and 1 <= value.dim() <= 2
            and value.size(0) == batch
            and value.dtype != torch.bool
            and not are_lengths(value, self.probe)
        ]

    def apart(self) -> list[tuple[Tensor, int]]:
        """The tensors among the inputs with more than one axis that lie otherwise, and where their sequences lie.

        A second series that is longer or shorter than the first one, say; masks and tables (see `static`) left out.
        """
        others = {id(value) for value in (*self.aligned(), *self.static())}
        found = []
        for value in tensors_among(self.probe.inputs):
            if id(value) in others or value.dim() < 2 or value.dtype == torch.bool:
                continue
            if (axis := self.probe.axis_of_sequences(value)) is not None:
                found.append((value, axis))
        return found

    def training(self) -> Trials:
        """The same in training mode: what a model is told only then, it does not hear in eval mode."""
        model = copy.deepcopy(self.model).train()
        return replace(self, model=model, intact=_outputs(model, self.probe.inputs))

    def exchanged(self, old: Tensor, new: Tensor) -> Any:
        """The inputs with a tensor in the place of one, which lies alike."""
        return replaced(self.probe.inputs, old, new)

    def aligned(self) -> list[Tensor]:
        """The tensors among the inputs that lie as the first one does, masks left out."""
        time, batch = self.probe.axes.time, self.probe.axes.batch
        return [
            value
            for value in tensors_among(self.probe.inputs)
            if value.dim() >= 2 and value.dtype != torch.bool and (value.size(time), value.size(batch)) == self.sizes
        ]

    def time_first(self, x: Tensor) -> Tensor:
        """(T, B, ...) of inputs as they lie."""
        return x.movedim((self.probe.axes.time, self.probe.axes.batch), (0, 1))

    def lent(self, x: Tensor) -> Tensor:
        """(T, B, ...) of inputs as they lie: what another sequence has there, or at another time if it is alone."""
        moved = self.time_first(x)
        return moved.roll(1, 1) if moved.size(1) > 1 else moved.roll(moved.size(0) // 2 or 1, 0)

    def replaced(self, where: Tensor, only: Tensor | None = None) -> Any:
        """The inputs with those at `where` (T, B) taken from another sequence, in all aligned tensors or one."""
        inputs = self.probe.inputs
        for x in self.aligned():
            if only is None or x is only:
                inputs = self.put(
                    inputs, x, torch.where(_spread(where, self.time_first(x)), self.lent(x), self.time_first(x))
                )
        return inputs

    def put(self, inputs: Any, old: Tensor, new: Tensor) -> Any:
        """Inputs with `new` (T, B, ...) in the place of `old`, which lies as they do."""
        axes = self.probe.axes
        back = new.movedim((0, 1), (axes.time, axes.batch))
        return replaced(inputs, old, back.contiguous())  # as a loader gives it: a model may call view()

    def first_steps(self, count: int) -> Any:
        """The inputs cut to so many steps."""
        time, batch = self.probe.axes.time, self.probe.axes.batch

        def cut(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if value.dim() >= 2 and (value.size(time), value.size(batch)) == self.sizes:
                return value.narrow(time, 0, min(count, self.sizes[0])).contiguous()
            return value.clamp(max=count) if are_lengths(value, self.probe) else value

        return each_argument(self.probe.inputs, cut)

    def everything(self) -> Tensor:
        """The outputs with all inputs replaced: the yardstick of every change."""
        return self.outputs(self.replaced(torch.ones(self.sizes, dtype=torch.bool)))

    def layouts(self, outputs: Tensor, num_steps: int | None = None) -> list[Tensor]:
        """The outputs as (T, B, C), in every way that their shape allows; empty where they have no axis of time.

        T is that of the inputs unless others were asked.
        """
        steps, batch = self.sizes
        return _layouts(outputs, num_steps or steps, batch, batch_first=self.probe.axes.batch == 0)

    def steps_of(self, tensor: Tensor) -> Tensor | None:
        """A view (T, B, ...) of targets that lie as the inputs do or have both axes in one; None of others."""
        num_steps, batch = self.sizes
        time, row = self.probe.axes.time, self.probe.axes.batch
        if tensor.dim() >= 2 and (tensor.size(time), tensor.size(row)) == (num_steps, batch):
            return tensor.movedim((time, row), (0, 1))
        if tensor.dim() and tensor.size(0) == num_steps * batch and tensor.is_contiguous():
            order = (batch, num_steps) if row == 0 else (num_steps, batch)
            return tensor.view(*order, *tensor.shape[1:]).movedim((time, row), (0, 1))
        return None

    def by_sequence(self, outputs: Tensor) -> list[Tensor]:
        """The outputs as (B, C), in every way that their shape allows."""
        steps = [moved.transpose(0, 1).flatten(1) for moved in self.layouts(outputs)]
        if steps:
            return steps
        batch = self.sizes[1]
        return [
            outputs.movedim(axis, 0).reshape(batch, -1) for axis, size in enumerate(outputs.shape[:3]) if size == batch
        ]

    def valid(self) -> Tensor:
        """(T, B) bool: steps that are not padding."""
        num_steps, batch = self.sizes
        lengths = torch.full((batch,), num_steps) if self.lengths is None else self.lengths
        return torch.arange(num_steps).unsqueeze(1) < lengths


def trials(case: Case, axes: Axes) -> Trials:
    """Prepare them.

    Raises:
        Missing: if the model cannot be copied, or does not give the same outputs twice.
    """
    if isinstance(first_tensor(case.inputs), PackedSequence):
        raise Missing("inputs that are not packed")
    try:
        model = copied(case.model).eval()
    except InputError as error:
        raise Missing(f"a model that can be copied ({error})") from error
    for probe, lengths in _probes(case, axes):
        try:
            intact = _outputs(model, probe.inputs)
        except Missing:
            continue  # a model that wants the whole batch: it has a state of that size
        if not _same(intact, _outputs(model, probe.inputs)):
            raise Missing("a model that gives the same outputs twice in eval mode")
        found = Trials(model, probe, lengths, case.loss, intact)
        idle = not bool(intact.isfinite().all()) or torch.equal(found.everything(), intact)
        return found.redrawn() if idle else found
    raise Missing("a model that runs on these inputs in eval mode")


def _probes(case: Case, axes: Axes) -> Iterator[tuple[Probe, Tensor | None]]:
    """Some of the batch, then all of it."""
    targets = case.targets if isinstance(case.targets, Tensor) else None
    whole = Probe.of(case.inputs, targets, axes)
    lengths = lengths_of(case, whole)
    if whole.num_sequences > _MOST_SEQUENCES:
        some = _MOST_SEQUENCES - (whole.num_steps == _MOST_SEQUENCES)  # T and B must be told apart
        rows = torch.arange(some) * whole.num_sequences // some
        with suppress(InputError):
            yield whole.chosen(rows), None if lengths is None else lengths[rows]
    yield whole, lengths


def lengths_of(case: Case, probe: Probe) -> Tensor | None:
    """(B,) as they were handed over, or as the model is given them; None where all sequences fill their steps."""
    given = case.lengths
    if given is None:
        for value in tensors_among(probe.inputs):
            if are_lengths(value, probe):
                given = value
                break
    if given is None:
        return None
    lengths = settled_lengths(given, probe)
    return None if int(lengths.min()) == probe.num_steps else lengths


def are_lengths(value: Tensor, probe: Probe) -> bool:
    """Whether a tensor can be the lengths of the sequences."""
    whole = value.dim() == 1 and value.numel() == probe.num_sequences and not value.is_floating_point()
    return whole and value.dtype != torch.bool and int(value.min()) >= 1 and int(value.max()) <= probe.num_steps


def change(one: Tensor, other: Tensor) -> Tensor:
    """Root mean square of the difference over the last axis."""
    return (one - other).double().square().mean(-1).sqrt().cpu()


def _outputs(model: nn.Module, inputs: Any) -> Tensor:
    with left_as_found(model), torch.no_grad():
        try:
            return first_output(forward(model, own(inputs))).detach().clone()
        except Exception as error:
            raise Missing(f"a model that runs in eval mode ({type(error).__name__}: {error})") from error


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _spread(where: Tensor, like: Tensor) -> Tensor:
    return where.to(like.device).view(*where.shape, *[1] * (like.dim() - where.dim()))


def _layouts(tensor: Tensor, num_steps: int, batch: int, *, batch_first: bool) -> list[Tensor]:
    """As (T, B, C), the likeliest first."""
    found = []
    order = (1, 0) if batch_first else (0, 1)
    for time, row in (order, order[::-1], (2, 0), (2, 1)):
        if tensor.dim() > max(time, row) and (tensor.size(time), tensor.size(row)) == (num_steps, batch):
            found.append(tensor.movedim((time, row), (0, 1)).reshape(num_steps, batch, -1))
    if not found and tensor.dim() and tensor.size(0) == num_steps * batch:
        ways = [tensor.reshape(batch, num_steps, -1).transpose(0, 1), tensor.reshape(num_steps, batch, -1)]
        found = ways if batch_first else ways[::-1]
    return found
