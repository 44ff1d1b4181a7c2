"""`use`: how far back a trained model makes use of its inputs, by taking the older ones away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.errors import InputError, RecipeError
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.model_check import checked_model
from throughtime.measurement.positions import drawn_positions, settled_lengths
from throughtime.measurement.probe import Probe, first_tensor
from throughtime.measurement.smaller import of_fewer_if_need_be
from throughtime.measurement.usage_trial import Loss, Trial
from throughtime.storage import Record

__all__ = ["UseRecord", "use"]

_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class UseRecord(Record):
    """What inputs older than k are worth to a model.

    Attributes:
        use: the smallest k of `lags` such that replacing all inputs older than k makes the loss less than `threshold`
            worse, and no larger k of `lags` makes it worse again; None where none is.
        lags: the k that were tried, ascending.
        worse: for each k by how much the loss grew, relative to the intact one.
        interval: for each k the 95 % interval of that, over sequences.
        baseline: the intact loss.
        threshold: relative.
        num_sequences: over which is averaged.
        verdict: "found", "nothing" (the loss is no worse with everything replaced), or "cannot tell".
        reason: in words.
        notes: what a reader should know of how it was measured.
    """

    record_kind: ClassVar[str] = "use"
    schema_version: ClassVar[int] = 1

    use: int | None
    lags: tuple[int, ...]
    worse: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    baseline: float
    threshold: float
    num_sequences: int
    verdict: str
    reason: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        notes = (f"note: {note}" for note in self.notes)
        rows = [
            f"  older than {lag:>6}: {worse:+8.2%}  [{low:+.2%}, {high:+.2%}]"
            for lag, worse, (low, high) in zip(self.lags, self.worse, self.interval, strict=True)
        ]
        return "\n".join(
            [self.reason, f"loss {self.baseline:.4g}; by how much worse with the inputs replaced", *rows, *notes]
        )


def use(
    model: nn.Module,
    inputs: Any,
    targets: Tensor | None,
    loss: Loss,
    *,
    time_dim: int | None = None,
    batch_dim: int | None = None,
    output_dims: tuple[int, int] | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    lags: Sequence[int] | None = None,
    threshold: float = 0.01,
    seed: int = 0,
) -> UseRecord:
    """How far back a trained model uses its inputs: the loss with all inputs older than k steps replaced.

    They are replaced by those of another sequence of the batch at the same steps, so that what the model sees stays
    ordinary. The loss counts at one position of each sequence, drawn from its last quarter, or the nearest at which
    there is a loss; so does a loss that is the mean or the sum over the steps of each sequence. A loss of whole
    sequences counts from the one step of the outputs that it is taken of, or else from their last step. Where the
    outputs have another number of steps than the inputs (a stride, a pooling over time), lags count from the newest
    input that the output at a position depends on, which is tried out. The model runs as it is, in the mode it is in
    (call `eval()` first, as a rule), without gradients, and is left as it was found. Where memory does not suffice,
    half as many sequences are measured, and the record says so.

    *Reference*: Khandelwal, He, Qi & Jurafsky 2018, *Sharp nearby, fuzzy far away: How neural language models use
    context*, arXiv:1805.04623. Departures: replaced, where they drop, shuffle or permute words.

    Args:
        model: any `torch.nn.Module`.
        inputs: what it is called with, as for `throughtime.measure`; the first tensor is what is replaced.
        targets: second argument of `loss`.
        loss: (outputs, targets) -> losses of the outputs' leading axes (time and sequences, as they lie), or (B,), of
            sequences (`reduction="none"`). One number for everything, a mean say, is asked for of each sequence's
            output and target at its position alone, which takes longer.
        time_dim: axis of time in the inputs; that of the recurrent modules unless given.
        batch_dim: axis of the sequences, likewise.
        output_dims: axes of time and of the sequences in the outputs, as for `measure`.
        lengths: of the sequences, (B,).
        lags: the k to try; about 24 up to T unless given, closest together where they are small.
        threshold: by how much worse, relative to the intact loss, counts.
        seed: of positions, partners and resamples.

    Returns:
        The record; `print` it.

    Raises:
        InputError: if model or loss fail, or the axes cannot be known, or there is no memory for two sequences.
        RecipeError: if `threshold` or a lag is out of range.

    Example:
        >>> class Before(nn.Module):  # says what it saw three steps ago
        ...     def forward(self, x):
        ...         return torch.roll(x, 3, dims=0)
        >>> x = torch.randn(40, 16, 1, generator=torch.Generator().manual_seed(0))
        >>> squares = lambda outputs, targets: (outputs - targets).square().mean(-1) + 0.01
        >>> use(Before(), x, torch.roll(x, 3, dims=0), squares, time_dim=0).use
        3
    """
    if not threshold > 0:
        raise RecipeError(f"threshold must be above 0, not {threshold:g}")
    if not callable(loss):
        raise InputError(f"use needs a loss, (outputs, targets) -> losses, not {loss!r}")
    model = checked_model(model, inputs)
    axes, alone = settled_axes(model, inputs, time_dim, batch_dim)
    probe = Probe.of(inputs, targets, axes, alone=alone)
    if isinstance(first_tensor(inputs), PackedSequence):
        raise InputError("use cannot replace inputs in a PackedSequence: hand over padded inputs and lengths")
    if probe.num_steps < 2:
        raise InputError(f"the inputs have {probe.num_steps} step along axis {axes.time}: use needs at least 2")
    if probe.num_sequences < 1:
        raise InputError(f"the inputs hold no sequence along axis {axes.batch}")
    settled = settled_lengths(lengths, probe)
    tried = _lags(lags, probe.num_steps)
    generator = torch.Generator().manual_seed(seed)
    positions = drawn_positions(settled, generator)
    if probe.num_sequences < 2:
        nothing = UseRecord(None, (), (), (), 0.0, threshold, probe.num_sequences, "cannot tell", "")
        return _but(nothing, "cannot tell: with a single sequence there is none to take other inputs from")
    every = torch.arange(probe.num_sequences)
    whole = Trial(model, probe, loss, output_dims, positions, settled, partners=every)

    def asked(rows: Tensor, notes: tuple[str, ...]) -> UseRecord:
        trial = whole.among(rows, _partners(rows.numel(), generator))
        trial.check_time()
        intact = trial.losses(None)
        replaced = torch.stack([trial.losses(lag) for lag in (-1, *tried)])
        found = _judged(intact, replaced, tried, threshold, generator)
        return replace(found, notes=(*notes, *trial.notes))

    return of_fewer_if_need_be(asked, every, num_steps=probe.num_steps, fewest=2)


def _judged(
    intact: Tensor, replaced: Tensor, tried: tuple[int, ...], threshold: float, generator: torch.Generator
) -> UseRecord:
    """From losses (K + 1, B), the first with everything replaced, to a record."""
    baseline = intact.mean()
    resamples = torch.randint(intact.numel(), (_RESAMPLES, intact.numel()), generator=generator)
    base = intact[resamples].mean(1)
    found = []
    for row in replaced:
        worse = ((row.mean() - baseline) / baseline.abs()).item() if baseline else float("inf")
        drawn = (row[resamples].mean(1) - base) / base.abs().clamp(min=torch.finfo(torch.float64).tiny)
        low, high = torch.quantile(drawn, torch.tensor(_INTERVAL, dtype=torch.float64)).tolist()
        found.append((worse, (low, high)))
    everything, *each = found
    record = UseRecord(
        None,
        tried,
        tuple(worse for worse, _ in each),
        tuple(interval for _, interval in each),
        baseline.item(),
        threshold,
        intact.numel(),
        "cannot tell",
        "",
    )
    if not baseline:
        return _but(record, "cannot tell: the intact loss is zero, and nothing is relative to it")
    if everything[0] < threshold:
        return _but(record, "the model uses nothing of its inputs: the loss is no worse without them", 0, "nothing")
    fine = [worse < threshold for worse, _ in each]
    first = next((index for index in range(len(fine)) if all(fine[index:])), None)
    if first is None:
        return _but(record, f"the model uses more than the last {tried[-1]} steps, the longest that was tried")
    return _but(record, f"the model uses the last {tried[first]} steps", tried[first], "found")


def _but(record: UseRecord, reason: str, steps: int | None = None, verdict: str = "cannot tell") -> UseRecord:
    return replace(record, reason=reason, use=steps, verdict=verdict)


def _lags(given: Sequence[int] | None, num_steps: int) -> tuple[int, ...]:
    if given is None:
        spread = {round(num_steps ** (index / 23)) for index in range(24)} | {0, 1, 2, 3, 4}
        return tuple(sorted(lag for lag in spread if lag < num_steps))
    lags = tuple(sorted(set(given)))
    if not lags or lags[0] < 0 or lags[-1] >= num_steps:
        raise RecipeError(f"lags must be numbers from 0 to {num_steps - 1}, not {tuple(given)}")
    return lags


def _partners(num_sequences: int, generator: torch.Generator) -> Tensor:
    """For each sequence another one, each lending once."""
    order = torch.randperm(num_sequences, generator=generator)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners
