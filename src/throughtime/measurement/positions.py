"""Where along time the loss counts: one position of each sequence, from its last quarter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.errors import InputError
from throughtime.measurement.probe import Axes, Probe, first_tensor

__all__ = ["at_positions", "counted_positions", "drawn_positions", "settled_lengths"]


def at_positions(gradient: Tensor, axes: Axes, positions: Tensor) -> Tensor:
    """The gradient by the outputs at one position of each sequence, and zero elsewhere."""
    moved = gradient.movedim((axes.time, axes.batch), (0, 1))
    rows = torch.arange(positions.numel(), device=gradient.device)
    at = positions.to(gradient.device)
    masked = torch.zeros_like(moved)
    masked[at, rows] = moved[at, rows]
    return masked.movedim((0, 1), (axes.time, axes.batch))


def drawn_positions(lengths: Tensor, generator: torch.Generator) -> Tensor:
    """One of each sequence, from its last quarter."""
    first = lengths * 3 // 4
    drawn = (torch.rand(lengths.numel(), generator=generator) * (lengths - first)).long()
    return torch.minimum(first + drawn, lengths - 1)


def counted_positions(gradient: Tensor, axes: Axes, drawn: Tensor) -> Tensor:
    """(B,) the drawn positions; where there is no loss at one (a target of -100, say), the nearest where there is.

    Args:
        gradient: of the loss by the outputs; or whatever is zero where there is no loss.
        axes: of these.
        drawn: (B,).
    """
    moved = gradient.movedim((axes.time, axes.batch), (0, 1))
    counts = moved.ne(0).reshape(*moved.shape[:2], -1).any(2).cpu()  # outputs without features have two axes
    distance = (torch.arange(counts.size(0)).unsqueeze(1) - drawn).abs()
    nearest = distance.masked_fill(~counts, counts.size(0) + 1).argmin(0)
    return torch.where(counts.any(0), nearest, drawn)


def settled_lengths(lengths: Tensor | Sequence[int] | None, probe: Probe) -> Tensor:
    """(B,), as given, or as a packed sequence has them, or T.

    Raises:
        InputError: if they are not one number from 1 to T for each sequence.
    """
    x = first_tensor(probe.inputs)
    if lengths is None and isinstance(x, PackedSequence):
        counts = torch.zeros(probe.num_sequences, dtype=torch.int64)
        for size in x.batch_sizes.tolist():
            counts[:size] += 1
        return counts if x.unsorted_indices is None else counts[x.unsorted_indices.cpu()]
    if lengths is None:
        return torch.full((probe.num_sequences,), probe.num_steps)
    found = torch.as_tensor(lengths).to("cpu", torch.int64)
    if found.shape != (probe.num_sequences,) or int(found.min()) < 1 or int(found.max()) > probe.num_steps:
        raise InputError(
            f"lengths must be {probe.num_sequences} numbers from 1 to {probe.num_steps}, one for each sequence"
        )
    return found
