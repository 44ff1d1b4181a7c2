"""One pass over a model: taps put into a copy of it, the loss at chosen positions, and the norms of the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement.adapters import put_in_stand_ins
from throughtime.measurement.backward_pass import Backward, last_step
from throughtime.measurement.model_copy import copied, in_precision
from throughtime.measurement.norms import Norms
from throughtime.measurement.output_layout import check_time, laid_out, on_shape
from throughtime.measurement.positions import at_positions, counted_positions, drawn_positions
from throughtime.measurement.probe import Axes, Probe, call, first_tensor, loss_gradient
from throughtime.measurement.profile import Profiled
from throughtime.measurement.spectrum_calls import recurrent_modules
from throughtime.measurement.tap import Run, Tap
from throughtime.measurement.tap_calls import called_once_a_step
from throughtime.measurement.taps import tap_inputs, tap_own_cells, tap_recurrences

__all__ = ["Measured", "Question", "measured"]


_FEWEST, _MOST = 0.75, 1.5
"""Steps of a layer for each one of the inputs, where some are left out or added at the ends."""


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
        refused: by name of the others, why there are none.
        positions: (B,) at which the loss counted; None where it has one of its own.
        notes: what a reader should know.
    """

    profiled: list[Profiled]
    refused: dict[str, str]
    positions: Tensor | None
    notes: tuple[str, ...]


def measured(model: nn.Module, probe: Probe, question: Question, positions: Tensor, dtype: torch.dtype) -> Measured:
    """Measure a copy of `model` in `dtype`.

    Raises:
        InputError: if model or loss fail, or nothing in the model can be measured.
    """
    copy = copied(model)
    with torch.random.fork_rng(devices=()):  # layers made there draw weights; dropout is to draw what it always draws
        copy, taps, kind, notes = _tapped(copy, probe, dtype)
    outputs, taps = _run(copy, probe, taps)
    refused = {tap.name: reason for tap in taps if kind == "state" and (reason := tap.refusal(probe.num_sequences))}
    taps = [tap for tap in taps if tap.name not in refused]
    gradient = loss_gradient(question.loss, outputs, probe.targets, question.seed)
    layout = laid_out(outputs, gradient, probe, question.output_dims, [len(tap.longest.steps) for tap in taps])
    outputs, gradient, axes = layout.outputs, layout.gradient, layout.axes
    ways = [Backward(outputs, axis, kind, probe, taps) for axis in layout.batch_axes]
    cotangent = gradient
    if axes is not None:
        positions, cotangent = _counting(gradient, axes, positions, probe, question.seed)
    apart = next((way for way in ways if not way.mixes(cotangent)), None)
    backward, mixed = apart or ways[0], apart is None
    if mixed:
        notes += ("sequences of the batch influence one another (batch normalisation?): each was measured by itself",)
    of_all = backward.norms(gradient)
    if axes is None and question.output_dims is None:
        axes = backward.steps_in_order(gradient, of_all)
        if axes is None:
            notes += on_shape(outputs, probe)
        else:
            positions, cotangent = _counting(gradient, axes, positions, probe, question.seed)
    num_steps = probe.num_steps if axes is None else outputs.size(axes.time)
    of_position = backward.to_the_start(cotangent, separately=mixed)
    profiled = []
    for tap, at_position, whole in zip(taps, of_position, of_all, strict=True):
        started = _start(at_position, tap, kind, None if axes is None else positions, num_steps)
        several = (f"called anew {len(tap.runs)} times: the longest run was measured",) if len(tap.runs) > 1 else ()
        own_steps = kind == "state" and _has_own_steps(tap, probe.num_steps)
        profiled.append(Profiled(tap, kind, at_position, whole, started, several, own_steps))
        tap.forget()
    if layout.axes is not None and question.output_dims is None:
        check_time(outputs, layout.axes, profiled)
    return Measured(profiled, refused, None if axes is None else positions, notes)


def _counting(gradient: Tensor, axes: Axes, drawn: Tensor, probe: Probe, seed: int) -> tuple[Tensor, Tensor]:
    """(B,) where the loss counts, and the gradient by the outputs there alone."""
    num_steps = gradient.size(axes.time)
    if num_steps != probe.num_steps:
        drawn = drawn_positions(torch.full_like(drawn, num_steps), torch.Generator().manual_seed(seed))
    positions = counted_positions(gradient, axes, drawn)
    return positions, at_positions(gradient, axes, positions)


def _run(copy: nn.Module, probe: Probe, taps: list[Tap]) -> tuple[Tensor, list[Tap]]:
    """The model's outputs, and the taps that something passed; without any, one at the inputs.

    Raises:
        InputError: if the model fails, or nothing passed.
    """
    leaf = None if taps else first_tensor(probe.inputs).requires_grad_()
    outputs = call(copy, probe.inputs)
    if leaf is not None:
        return outputs, [Tap("inputs", ("input",), runs=[Run([(leaf,)], (leaf,))])]
    for tap in taps:
        tap.recording = False
    passed = [tap for tap in taps if tap.runs]
    if not passed:
        raise InputError(
            "on these inputs the model called none of its recurrent modules, and no torch.nn.Embedding with one id for "
            "each step of each sequence"
        )
    return outputs, passed


def _tapped(copy: nn.Module, probe: Probe, dtype: torch.dtype) -> tuple[nn.Module, list[Tap], str, tuple[str, ...]]:
    """The copy in `dtype` with taps in it, and whether they are at states or at inputs."""
    watched = in_precision(copied(copy), dtype)
    copy = in_precision(put_in_stand_ins(copy), dtype)
    known = recurrent_modules(copy)
    taps = tap_recurrences(copy)
    if not taps or _holds_others(copy, known):
        sizes = sorted((probe.num_steps, probe.num_sequences))
        with torch.no_grad():
            own = called_once_a_step(
                watched, lambda: call(watched, probe.inputs), lambda x: x.dim() > 2 and sorted(x.shape[:2]) == sizes
            )
        taps += tap_own_cells(copy, {name: own[name] for name in own if not _overlaps(name, known)})
    if taps:
        return copy, taps, "state", ()
    x = first_tensor(probe.inputs)
    note = ("no recurrence was found: this is the gradient by the inputs",)
    if isinstance(x, Tensor) and x.is_floating_point():
        return copy, [], "input", note
    taps = tap_inputs(copy, probe.is_one_a_step)
    if not taps:
        raise InputError(
            f"the inputs are {x.dtype}, and the model has no recurrence and no torch.nn.Embedding: nothing has a "
            "gradient"
        )
    return copy, taps, "input", note


def _holds_others(model: nn.Module, known: dict[str, nn.Module]) -> bool:
    """Whether it holds modules of the user's that may be called once a step, beside those that are known to be."""
    return any(
        name and not type(module).__module__.startswith(("torch.", "throughtime.")) and not _overlaps(name, known)
        for name, module in model.named_modules()
    )


def _overlaps(name: str, known: dict[str, nn.Module]) -> bool:
    """Whether a module lies inside of one that is known, or holds one."""
    return any(f"{name}.".startswith(f"{each}.") or f"{each}.".startswith(f"{name}.") for each in known)


def _has_own_steps(tap: Tap, num_steps: int) -> bool:
    """Whether it ran so many more or fewer steps than the inputs have that these cannot be the same."""
    ran = [len(run.steps) for run in tap.runs]
    return not any(_FEWEST * num_steps <= num <= _MOST * num_steps for num in (max(ran), sum(ran)))


def _start(norms: Norms, tap: Tap, kind: str, positions: Tensor | None, num_steps: int) -> Tensor:
    """(B,) at which step lag 0 lies: at the position of the loss, or at the last step that the loss depends on.

    A model that turns its inputs round by itself, or runs a cell from the end, runs backwards without saying so: then
    what the loss depends on ends for every sequence just where a backward direction's would.
    """
    joint, last = norms.joint, last_step(norms)
    if positions is None or joint.size(0) != num_steps:
        return last
    if kind == "input":
        return positions
    ends = num_steps if tap.lengths is None else tap.lengths
    places = {False: positions, True: ends - 1 - positions}
    expected, turned = places[tap.backward], places[not tap.backward]
    heard = last >= 0
    agrees = torch.equal(last[heard], expected[heard])
    if agrees or not tap.one_way or not torch.equal(last[heard], turned[heard]):
        return expected
    if len(set(positions[heard].tolist())) < 2:
        return torch.full_like(positions, -1)  # it may be chance
    tap.backward = not tap.backward
    return turned
