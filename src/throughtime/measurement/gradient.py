"""`measure`: the gradient through time of any PyTorch model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.norms import Norms, log2_norm, state_norms
from throughtime.measurement.positions import at_positions, drawn_positions, output_axes, settled_lengths
from throughtime.measurement.probe import (
    Axes,
    Probe,
    call,
    first_tensor,
    guessed_axes,
    loss_gradient,
    original_module,
)
from throughtime.measurement.profile import Profiled, lag_profile
from throughtime.measurement.taps import (
    Run,
    Tap,
    called_once_a_step,
    tap_inputs,
    tap_own_cells,
    tap_recurrences,
)

__all__ = ["measure"]

Loss = Callable[..., Any]


def measure(
    model: nn.Module,
    inputs: Any,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    *,
    time_dim: int | None = None,
    batch_dim: int | None = None,
    output_dims: tuple[int, int] | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    num_sequences: int = 8,
    max_lag: int | None = None,
    seed: int = 0,
) -> GradientRecord:
    """How far the gradient reaches through time, in a model and on data of your own.

    The state gradient is d loss / d (what step t hands to step t + 1 and to whoever reads the output at t), all parts
    of the state together as independent variables. The loss counts at one position of each sequence, drawn from its
    last quarter; the gradient by the state k steps before is divided by that at the position itself, lag 0. A loss
    without positions (classification of a whole sequence) has one profile, from the last step that it depends on.

    It is exact: a copy of the model runs step by step in float64, with the same weights, in the mode that the model is
    in, so that every state is in the graph. The model itself is not touched.

    Args:
        model: any `torch.nn.Module`. Measured by their states are `torch.nn.RNN`, `GRU`, `LSTM` and their cells,
            `throughtime.Recurrent`, and modules that are called once a step and given back what they returned; a model
            with none of these by its inputs.
        inputs: what it is called with; several arguments as a tuple, named ones as a dict.
        targets: second argument of `loss`.
        loss: (outputs, targets) -> a loss, of any shape. Where it is None, random projections of the outputs.
        time_dim: axis of time in the inputs; that of the recurrent modules unless given.
        batch_dim: axis of the sequences, likewise.
        output_dims: axes of time and of the sequences in the outputs; those of the inputs, where the sizes agree,
            unless given. (-1, b) says that the outputs have no axis of time.
        lengths: of the sequences, (B,); all of them T unless given.
        num_sequences: at most so many are measured.
        max_lag: the longest lag wanted.
        seed: of sequences, positions and projections.

    Returns:
        The record; `print` it.

    Raises:
        InputError: if model or loss fail on these inputs, or the axes cannot be known.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rnn = nn.RNN(3, 16)
        >>> with torch.no_grad():
        ...     _ = nn.init.orthogonal_(rnn.weight_hh_l0, gain=0.5)
        >>> record = measure(rnn, 0.1 * torch.randn(40, 4, 3))
        >>> record.reach, round(record.decay_per_step, 2)
        (6, 0.49)
    """
    at_least("num_sequences", num_sequences, 1)
    inner = original_module(model)
    axes = guessed_axes(inner, inputs, time_dim, batch_dim)
    probe = Probe.of(inputs, targets, axes)
    if probe.num_steps < 2:
        raise InputError(f"the inputs have {probe.num_steps} step along axis {axes.time}: a lag needs at least 2")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(probe.num_sequences, generator=generator)[:num_sequences].sort().values
    if isinstance(first_tensor(inputs), PackedSequence):
        rows = torch.arange(probe.num_sequences)
    settled = settled_lengths(lengths, probe)[rows]
    probe = probe.chosen(rows)
    positions = drawn_positions(settled, generator)
    found, notes = None, []
    for dtype in (torch.float64, torch.float32):
        try:
            with _undisturbed(dtype):
                found = _measured(inner, probe.to(dtype), loss, output_dims, settled, positions, seed, dtype)
            break
        except InputError as error:
            if dtype is torch.float32:
                raise
            notes.append(f"measured in float32, since in float64: {error}")
    assert found is not None
    return found.record(positions, max_lag, seed, dtype, notes)


@dataclass(frozen=True)
class _Found:
    """Everything that one pass over the model gave."""

    profiled: list[Profiled]
    with_positions: bool
    notes: tuple[str, ...]

    def record(
        self, positions: Tensor, max_lag: int | None, seed: int, dtype: torch.dtype, notes: list[str]
    ) -> GradientRecord:
        profiles = {each.tap.name: lag_profile(each, max_lag) for each in self.profiled}
        forward = {name: p for name, p in profiles.items() if not p.backward and p.reach is not None}
        top = max(forward or profiles, key=lambda name: profiles[name].reach or 0)
        return GradientRecord(
            precision=str(dtype).removeprefix("torch."),
            seed=seed,
            positions=tuple(positions.tolist()) if self.with_positions else (),
            notes=(*notes, *self.notes),
            top=top,
            values={name: asdict(profile) for name, profile in profiles.items()},
        )


def _measured(
    model: nn.Module,
    probe: Probe,
    loss: Loss | None,
    output_dims: tuple[int, int] | None,
    lengths: Tensor,
    positions: Tensor,
    seed: int,
    dtype: torch.dtype,
) -> _Found:
    copied = _copied(model).to(dtype)
    with torch.random.fork_rng(devices=()):  # layers made there draw weights; dropout is to draw what it always draws
        taps, kind, notes = _tapped(copied, model, probe, dtype)
    leaf = None
    if kind == "input" and not taps:
        leaf, probe = _with_gradient(probe)
    outputs = call(copied, probe.inputs)
    if leaf is not None:
        taps = [Tap("inputs", ("input",), runs=[Run([(leaf,)], (leaf,))])]
    taps = [tap for tap in taps if tap.runs]
    if not taps:
        raise InputError("the model called none of its recurrent modules on these inputs")
    gradient = loss_gradient(loss, outputs, probe.targets, seed)
    axes = output_axes(outputs, probe, output_dims)
    cotangent = gradient if axes is None else at_positions(gradient, axes, positions)
    runs = {id(tap): max(tap.runs, key=lambda run: len(run.steps)) for tap in taps}
    mixed = _mixes(outputs, cotangent, axes, runs[id(taps[0])], kind, probe)
    if mixed:
        notes += ("sequences of the batch influence one another (batch normalisation?): each was measured by itself",)
    profiled = []
    for backward in (False, True):
        group = [tap for tap in taps if tap.backward == backward]
        of_position = _norms(outputs, cotangent, axes, group, runs, kind, probe, separately=mixed)
        of_all = _norms(outputs, gradient, axes, group, runs, kind, probe, separately=False, rescale=False)
        for tap, at_position, whole in zip(group, of_position, of_all, strict=True):
            started = _start(at_position, tap, axes, positions, lengths, probe.num_steps)
            several = (f"called anew {len(tap.runs)} times: the longest run was measured",) if len(tap.runs) > 1 else ()
            profiled.append(Profiled(tap, kind, at_position, whole, started, several))
    return _Found(profiled, axes is not None, notes)


def _tapped(
    copied: nn.Module, model: nn.Module, probe: Probe, dtype: torch.dtype
) -> tuple[list[Tap], str, tuple[str, ...]]:
    """Taps put into a copy, and whether they are at states or at inputs."""
    taps = tap_recurrences(copied)
    if taps:
        return taps, "state", ()
    watched = _copied(model).to(dtype)
    with torch.no_grad():
        own = called_once_a_step(watched, lambda: call(watched, probe.inputs))
    if own:
        return tap_own_cells(copied, own), "state", ()
    x = first_tensor(probe.inputs)
    note = ("no recurrence was found: this is the gradient by the inputs",)
    if isinstance(x, Tensor) and x.is_floating_point():
        return [], "input", note
    taps = tap_inputs(copied)
    if not taps:
        raise InputError(
            f"the inputs are {x.dtype}, and the model has no recurrence and no torch.nn.Embedding: nothing has a "
            "gradient"
        )
    return taps, "input", note


def _norms(
    outputs: Tensor,
    cotangent: Tensor,
    axes: Axes | None,
    group: list[Tap],
    runs: dict[int, Run],
    kind: str,
    probe: Probe,
    *,
    separately: bool,
    rescale: bool = True,
) -> list[Norms]:
    """Those of one direction; sequence by sequence where they influence one another."""
    if not group:
        return []
    chosen = [runs[id(tap)] for tap in group]
    if kind == "input":
        if separately:
            each = [_input_norms(outputs, part, chosen, probe) for part in _apart(cotangent, axes, probe)]
            return _joined(each)
        return _input_norms(outputs, cotangent, chosen, probe)
    if separately:
        return _joined([state_norms(outputs, part, chosen) for part in _apart(cotangent, axes, probe)])
    return state_norms(outputs, cotangent, chosen, rescale=rescale)


def _input_norms(outputs: Tensor, cotangent: Tensor, runs: list[Run], probe: Probe) -> list[Norms]:
    """By whole sequences of inputs, (B, T, ...) or (T, B, ...), cut into steps."""
    found = []
    for run in runs:
        (x,) = run.steps[0]
        (gradient,) = torch.autograd.grad(outputs, x, cotangent, retain_graph=True, allow_unused=True)
        gradient = torch.zeros_like(x) if gradient is None else gradient
        time_first = gradient.to("cpu", torch.float64).movedim((probe.axes.time, probe.axes.batch), (0, 1))
        found.append(Norms(log2_norm(time_first.flatten(2)).unsqueeze(0)))
    return found


def _apart(cotangent: Tensor, axes: Axes | None, probe: Probe) -> Iterator[Tensor]:
    """The cotangent of each sequence alone."""
    batch = 0 if axes is None else axes.batch
    for row in range(probe.num_sequences):
        only = torch.zeros_like(cotangent)
        only.select(batch, row).copy_(cotangent.select(batch, row))
        yield only


def _joined(each: list[list[Norms]]) -> list[Norms]:
    """Of one pass a sequence, the row of that sequence."""
    joined = []
    for of_tap in zip(*each, strict=True):
        logs = torch.stack([norms.log2[:, :, row] for row, norms in enumerate(of_tap)], dim=2)
        joined.append(Norms(logs, max(norms.exact_from for norms in of_tap)))
    return joined


def _mixes(outputs: Tensor, cotangent: Tensor, axes: Axes | None, run: Run, kind: str, probe: Probe) -> bool:
    """Whether the loss of the first sequence depends on the states of another."""
    if probe.num_sequences < 2 or (axes is None and outputs.size(0) != probe.num_sequences):
        return False
    only = next(_apart(cotangent, axes, probe))
    if kind == "input":
        (norms,) = _input_norms(outputs, only, [run], probe)
    else:
        (norms,) = state_norms(outputs, only, [run], rescale=False)
    return bool(norms.log2[:, :, 1:].isfinite().any())


def _start(norms: Norms, tap: Tap, axes: Axes | None, positions: Tensor, lengths: Tensor, num_steps: int) -> Tensor:
    """(B,) at which step lag 0 lies: at the position of the loss, or at the last step that the loss depends on."""
    joint = norms.joint
    if axes is not None and joint.size(0) == num_steps:
        return lengths - 1 - positions if tap.backward else positions
    steps = torch.arange(joint.size(0)).unsqueeze(1)
    return torch.where(joint.isfinite(), steps, -1).amax(0)


def _with_gradient(probe: Probe) -> tuple[Tensor, Probe]:
    """The first input as a leaf of the graph."""
    leaf = first_tensor(probe.inputs).requires_grad_()
    return leaf, probe


def _copied(model: nn.Module) -> nn.Module:
    if not all(bool(p.isfinite().all()) for p in model.parameters() if p.is_floating_point()):
        raise InputError("the model has weights that are not finite: there is no gradient to measure")
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise InputError(f"the model cannot be copied ({type(error).__name__}: {error})") from error


@contextmanager
def _undisturbed(dtype: torch.dtype) -> Iterator[None]:
    """With gradients, in a default dtype; the random state, the dtype and the mode are put back."""
    before = torch.get_default_dtype()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
