"""One pass over a model: taps put into a copy of it, the loss at chosen positions, and the norms of the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement.adapters import put_in_stand_ins
from throughtime.measurement.model_copy import copied
from throughtime.measurement.norms import Norms, log2_norm, rescale, state_norms
from throughtime.measurement.positions import at_positions, counted_positions, output_axes
from throughtime.measurement.probe import Axes, Probe, call, first_tensor, loss_gradient
from throughtime.measurement.profile import Profiled
from throughtime.measurement.taps import Run, Tap, called_once_a_step, tap_inputs, tap_own_cells, tap_recurrences

__all__ = ["Measured", "Question", "measured"]


@dataclass(frozen=True)
class Question:
    """What `measure` was asked about.

    Attributes:
        loss: of outputs and targets; None for random projections.
        output_dims: as given.
        seed: of projections.
    """

    loss: Callable[..., Any] | None
    output_dims: tuple[int, int] | None
    seed: int


@dataclass(frozen=True)
class Measured:
    """Everything that one pass gave.

    Attributes:
        profiled: the taps with their norms.
        positions: (B,) at which the loss counted; None where it has one of its own.
        notes: what a reader should know.
    """

    profiled: list[Profiled]
    positions: Tensor | None
    notes: tuple[str, ...]


def measured(
    model: nn.Module, probe: Probe, question: Question, lengths: Tensor, positions: Tensor, dtype: torch.dtype
) -> Measured:
    """Measure a copy of `model` in `dtype`.

    Raises:
        InputError: if model or loss fail, or nothing in the model can be measured.
    """
    copy = copied(model)
    with torch.random.fork_rng(devices=()):  # layers made there draw weights; dropout is to draw what it always draws
        copy, taps, kind, notes = _tapped(copy, probe, dtype)
    leaf = first_tensor(probe.inputs).requires_grad_() if kind == "input" and not taps else None
    outputs = call(copy, probe.inputs)
    if leaf is not None:
        taps = [Tap("inputs", ("input",), runs=[Run([(leaf,)], (leaf,))])]
    taps = [tap for tap in taps if tap.runs]
    if not taps:
        raise InputError("the model called none of its recurrent modules on these inputs")
    gradient = loss_gradient(question.loss, outputs, probe.targets, question.seed)
    outputs, gradient, axes = _laid_out(outputs, gradient, probe, question.output_dims)
    if axes is not None:
        positions = counted_positions(gradient, axes, positions)
    cotangent = gradient if axes is None else at_positions(gradient, axes, positions)
    ways = [_Backward(outputs, axis, kind, probe, taps) for axis in _batch_axes(outputs, axes, probe)]
    apart = next((way for way in ways if not way.mixes(cotangent)), None)
    backward, mixed = apart or ways[0], apart is None
    if mixed:
        notes += ("sequences of the batch influence one another (batch normalisation?): each was measured by itself",)
    of_all = backward.norms(gradient)
    of_position = backward.to_the_start(cotangent, separately=mixed)
    profiled = []
    for tap, at_position, whole in zip(taps, of_position, of_all, strict=True):
        started = _start(at_position, tap, axes, positions, lengths, probe.num_steps)
        several = (f"called anew {len(tap.runs)} times: the longest run was measured",) if len(tap.runs) > 1 else ()
        profiled.append(Profiled(tap, kind, at_position, whole, started, several))
        tap.runs.clear()  # of tensors whose graph nobody needs any more, and which is large
    return Measured(profiled, None if axes is None else positions, notes)


def _tapped(copy: nn.Module, probe: Probe, dtype: torch.dtype) -> tuple[nn.Module, list[Tap], str, tuple[str, ...]]:
    """The copy in `dtype` with taps in it, and whether they are at states or at inputs."""
    watched = copied(copy).to(dtype)
    copy = put_in_stand_ins(copy).to(dtype)
    taps = tap_recurrences(copy)
    if taps:
        return copy, taps, "state", ()
    with torch.no_grad():
        own = called_once_a_step(watched, lambda: call(watched, probe.inputs))
    if own:
        return copy, tap_own_cells(copy, own), "state", ()
    x = first_tensor(probe.inputs)
    note = ("no recurrence was found: this is the gradient by the inputs",)
    if isinstance(x, Tensor) and x.is_floating_point():
        return copy, [], "input", note
    taps = tap_inputs(copy)
    if not taps:
        raise InputError(
            f"the inputs are {x.dtype}, and the model has no recurrence and no torch.nn.Embedding: nothing has a "
            "gradient"
        )
    return copy, taps, "input", note


def _laid_out(
    outputs: Tensor, gradient: Tensor, probe: Probe, given: tuple[int, int] | None
) -> tuple[Tensor, Tensor, Axes | None]:
    """Outputs and the gradient by them with axes for time and for the sequences, and where these lie.

    Raises:
        InputError: if that cannot be known.
    """
    if probe.alone or (outputs.dim() == 0 and probe.num_sequences == 1):
        with_time = outputs.dim() > 0 and outputs.size(0) == probe.num_steps
        place = 1 if with_time else 0
        return outputs.unsqueeze(place), gradient.unsqueeze(place), Axes(0, 1) if with_time else None
    if outputs.dim() == 0:
        raise InputError(
            "the model returns one number for all sequences: let it return their outputs, or measure one sequence with "
            "num_sequences=1"
        )
    if given is not None and given[0] == given[1] >= 0:
        axis = given[0]
        if axis >= outputs.dim() or outputs.size(axis) != probe.num_steps * probe.num_sequences:
            raise InputError(
                f"output_dims={given} do not fit outputs of shape {tuple(outputs.shape)}: axis {axis} does not hold "
                f"{probe.num_steps} steps of {probe.num_sequences} sequences"
            )
        flat = Axes(axis, axis + 1) if probe.axes.time < probe.axes.batch else Axes(axis + 1, axis)
        return probe.unflattened(outputs, axis), probe.unflattened(gradient, axis), flat
    return outputs, gradient, output_axes(outputs, probe, given)


@dataclass(frozen=True)
class _Backward:
    """Ways back from the outputs to the longest run of every tap."""

    outputs: Tensor
    batch_axis: int | None  # of the sequences in the outputs; None where they cannot be told apart there
    kind: str
    probe: Probe
    taps: list[Tap]

    def norms(self, cotangent: Tensor) -> list[Norms]:
        """One for each tap, as far as floating-point numbers go."""
        runs = [_longest(tap) for tap in self.taps]
        if self.kind == "input":
            return [self._of_inputs(run, cotangent) for run in runs]
        return state_norms(self.outputs, cotangent, runs)

    def to_the_start(self, cotangent: Tensor, *, separately: bool) -> list[Norms]:
        """One for each tap, beyond the range of numbers too; sequence by sequence where they influence one another."""
        if separately:
            each = [self.to_the_start(part, separately=False) for part in self._apart(cotangent)]
            return [_rows(of_tap) for of_tap in zip(*each, strict=True)]
        found = self.norms(cotangent)
        for backward in (False, True) if self.kind == "state" else ():
            chosen = [index for index, tap in enumerate(self.taps) if tap.backward == backward]
            if chosen:
                runs = [_longest(self.taps[index]) for index in chosen]
                rescale([found[index] for index in chosen], self.outputs, cotangent, runs, self.batch_axis)
        return found

    def mixes(self, cotangent: Tensor) -> bool:
        """Whether the loss of the first sequence depends on the states of another."""
        if self.probe.num_sequences < 2 or self.batch_axis is None:
            return False
        only = next(self._apart(cotangent))
        return any(bool((norms.log2[:, :, 1:] > -torch.inf).any()) for norms in self.norms(only))

    def _apart(self, cotangent: Tensor) -> Iterator[Tensor]:
        """The cotangent of each sequence alone."""
        axis = self.batch_axis or 0
        for row in range(self.probe.num_sequences):
            only = torch.zeros_like(cotangent)
            only.select(axis, row).copy_(cotangent.select(axis, row))
            yield only

    def _of_inputs(self, run: Run, cotangent: Tensor) -> Norms:
        """By whole sequences of inputs, (B, T, ...) or (T, B, ...), cut into steps."""
        (x,) = run.steps[0]
        gradient = None
        if self.outputs.requires_grad:
            (gradient,) = torch.autograd.grad(self.outputs, x, cotangent, retain_graph=True, allow_unused=True)
        gradient = torch.zeros_like(x) if gradient is None else gradient
        axes = self.probe.axes
        time_first = gradient.to("cpu", torch.float64).movedim((axes.time, axes.batch), (0, 1))
        return Norms(log2_norm(time_first.flatten(2)).unsqueeze(0))


def _batch_axes(outputs: Tensor, axes: Axes | None, probe: Probe) -> list[int | None]:
    """Which axes of the outputs may be that of the sequences: the likeliest first."""
    if axes is not None:
        return [axes.batch]
    fit = [axis for axis, size in enumerate(outputs.shape) if size == probe.num_sequences]
    return [*fit] or [None]


def _longest(tap: Tap) -> Run:
    return max(tap.runs, key=lambda run: len(run.steps))


def _rows(each: tuple[Norms, ...]) -> Norms:
    """Of one pass a sequence, the row of that sequence."""
    logs = torch.stack([norms.log2[:, :, row] for row, norms in enumerate(each)], dim=2)
    return Norms(logs, max(norms.exact_from for norms in each))


def _start(norms: Norms, tap: Tap, axes: Axes | None, positions: Tensor, lengths: Tensor, num_steps: int) -> Tensor:
    """(B,) at which step lag 0 lies: at the position of the loss, or at the last step that the loss depends on."""
    joint = norms.joint
    if axes is not None and joint.size(0) == num_steps:
        return lengths - 1 - positions if tap.backward else positions
    steps = torch.arange(joint.size(0)).unsqueeze(1)
    return torch.where(joint.isfinite(), steps, -1).amax(0)
