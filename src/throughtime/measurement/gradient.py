"""`measure`: the gradient through time of any PyTorch model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.measurement.arguments import own
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.gradient_pass import Question, measured
from throughtime.measurement.gradient_record import GradientRecord, LagProfile
from throughtime.measurement.model_check import checked_model, out_of_memory
from throughtime.measurement.model_copy import copied
from throughtime.measurement.positions import drawn_positions, settled_lengths
from throughtime.measurement.probe import Probe, call, first_tensor
from throughtime.measurement.profile import lag_profile
from throughtime.measurement.smaller import of_fewer_if_need_be

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
    last quarter, or the nearest at which there is a loss; the gradient by the state k steps before is divided by that
    at the position itself, lag 0. A loss without positions (classification of a whole sequence) has one profile, from
    the last step that it depends on.

    It is exact: a copy of the model runs step by step in float64, with the same weights, in the mode that the model is
    in, so that every state is in the graph. The model itself is not touched. Where memory does not suffice, half as
    many sequences are measured, and where the model runs on the whole batch alone, as one that keeps a state of its
    size does, all of them are; the record says so.

    Args:
        model: any `torch.nn.Module`. Measured by their states are `torch.nn.RNN`, `GRU`, `LSTM` and their cells,
            `throughtime.Recurrent`, modules that are called once a step and given back what they returned, and those
            for which `throughtime.register_adapter` was called; a model with none of these by its inputs.
        inputs: what it is called with; several arguments as a tuple, named ones as a dict.
        targets: second argument of `loss`.
        loss: (outputs, targets) -> a loss, of any shape. Where it is None, random projections of the outputs.
        time_dim: axis of time in the inputs; as the recurrent modules read them unless given.
        batch_dim: axis of the sequences, likewise.
        output_dims: axes of time and of the sequences in the outputs; those of the inputs, where the sizes agree, or
            those of (B, C, T), unless given. Twice the same axis says that the outputs are flattened there, in the
            order of the inputs; (-1, b) that they have no axis of time.
        lengths: of the sequences, (B,); all of them T unless given.
        num_sequences: at most so many are measured.
        max_lag: the longest lag wanted.
        seed: of sequences, positions and projections.

    Returns:
        The record; `print` it.

    Raises:
        InputError: if model or loss fail on these inputs, or the axes cannot be known, or the model has weights that
            are not finite or lies on several devices, or there is no memory for one sequence.
        RecipeError: if `num_sequences` or `max_lag` is below 1.

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
    if max_lag is not None:
        at_least("max_lag", max_lag, 1)
    inner = checked_model(model, inputs)
    probe = _probe(inner, inputs, targets, time_dim, batch_dim)
    settled = settled_lengths(lengths, probe)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(probe.num_sequences, generator=generator)[:num_sequences].sort().values
    packed = isinstance(first_tensor(inputs), PackedSequence)
    if packed:  # it is not cut
        rows = torch.arange(probe.num_sequences)
    positions = drawn_positions(settled[rows], generator)
    asked = _Asked(inner, probe, Question(loss, output_dims, seed), max_lag)
    try:
        return of_fewer_if_need_be(
            lambda some, notes: asked.about(some, positions[: some.numel()], notes),
            rows,
            num_steps=probe.num_steps,
            fewest=rows.numel() if packed else 1,
        )
    except InputError as error:
        if out_of_memory(error) or not _wants_all(inner, probe, rows):
            raise
    note = f"the model runs on all {probe.num_sequences} sequences alone, and so all were measured"
    return asked.about(torch.arange(probe.num_sequences), drawn_positions(settled, generator), (note,))


@dataclass(frozen=True)
class _Asked:
    """All that a call of `measure` is about."""

    model: nn.Module
    probe: Probe
    question: Question
    max_lag: int | None

    def about(self, rows: Tensor, positions: Tensor, notes: tuple[str, ...]) -> GradientRecord:
        """The record for some of the sequences."""
        probe = self.probe.chosen(rows)
        try:
            with _undisturbed(torch.float64):
                dtype = torch.float64
                found = measured(self.model, probe.to(dtype), self.question, positions, dtype)
        except InputError as error:
            if out_of_memory(error):
                raise
            notes = (*notes, f"measured in float32, since in float64: {error}")
            with _undisturbed(torch.float32):
                dtype = torch.float32
                found = measured(self.model, probe.to(dtype), self.question, positions, dtype)
        profiles = {each.tap.name: lag_profile(each, self.max_lag) for each in found.profiled}
        profiles |= {name: LagProfile(name, "state", cannot_tell=why) for name, why in found.refused.items()}
        forward = {name: p for name, p in profiles.items() if not p.backward and p.reach is not None}
        top = max(forward or profiles, key=lambda name: profiles[name].reach or 0)
        return GradientRecord(
            precision=str(dtype).removeprefix("torch."),
            seed=self.question.seed,
            positions=() if found.positions is None else tuple(found.positions.tolist()),
            notes=(*notes, *found.notes),
            top=top,
            values={name: asdict(profile) for name, profile in profiles.items()},
        )


def _probe(model: nn.Module, inputs: Any, targets: Tensor | None, time_dim: int | None, batch_dim: int | None) -> Probe:
    """All of the batch.

    Raises:
        InputError: if the axes cannot be known, or there is too little along them.
    """
    axes, alone = settled_axes(model, inputs, time_dim, batch_dim)
    x = first_tensor(inputs)
    probe = Probe.of(inputs, targets, axes, alone=alone)
    if probe.num_steps < 2:
        raise InputError(f"the inputs have {probe.num_steps} step along axis {axes.time}: a lag needs at least 2")
    if probe.num_sequences < 1:
        raise InputError(f"the inputs of shape {tuple(x.shape)} hold no sequence along axis {axes.batch}")
    return probe


def _wants_all(model: nn.Module, probe: Probe, rows: Tensor) -> bool:
    """Whether it runs on the batch, and not on some sequences of it: then it keeps a state of the batch's size."""
    if rows.numel() == probe.num_sequences:
        return False
    try:
        some = probe.chosen(rows)
    except InputError:
        return False
    return _runs(model, probe.inputs) and not _runs(model, some.inputs)


def _runs(model: nn.Module, inputs: Any) -> bool:
    copy = copied(model)
    with _undisturbed(torch.get_default_dtype()), torch.no_grad():
        try:
            call(copy, own(inputs))
        except InputError:
            return False
    return True


@contextmanager
def _undisturbed(dtype: torch.dtype) -> Iterator[None]:
    """With gradients, in a default dtype; all random states, the dtype and the mode are put back."""
    before, python, numpy = torch.get_default_dtype(), random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
            random.setstate(python)
            np.random.set_state(numpy)
