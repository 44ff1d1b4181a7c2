"""Batches without the sequences whose inputs are not finite: one of them would make the whole update NaN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement.arguments import tensors_among
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.probe import Axes, Probe, first_tensor
from throughtime.remedy.finiteness import finite_rows

__all__ = ["FiniteRows"]

_FEWEST_AXES = 3
"""Of numbers with fewer axes it is not known whether one of these is that of the sequences, or of the features."""


class FiniteRows:
    """The batches of a stream, without the sequences whose inputs hold NaN or infinity.

    Where it is not known along which axis the sequences lie, and where none of them is finite, a batch stays as it is.

    Args:
        batches: (inputs, targets).
        model: whose recurrent modules tell the axes, which a copy of it is run for once.
        time_dim: axis of time in the inputs; as the modules read it unless given.
    """

    def __init__(self, batches: Iterator[tuple[Any, Any]], model: nn.Module, time_dim: int | None) -> None:
        self.batches, self.model, self.time_dim = batches, model, time_dim
        self.num_left_out = 0
        self._settled: tuple[Axes, bool] | None = None

    def __iter__(self) -> FiniteRows:
        return self

    def __next__(self) -> tuple[Any, Any]:
        inputs, targets = next(self.batches)
        try:
            probe = self._probe(inputs, targets)
            if probe is None:
                return inputs, targets
            rows = _finite(probe)
            if not 0 < len(rows) < probe.num_sequences:
                return inputs, targets
            kept = probe.chosen(rows)
        except InputError:  # the axes, or those of the targets, cannot be told
            return inputs, targets
        self.num_left_out += probe.num_sequences - len(rows)
        return kept.inputs, kept.targets

    def _probe(self, inputs: Any, targets: Any) -> Probe | None:
        """None where there is nothing that could be left out.

        Raises:
            InputError: if the axes cannot be told.
        """
        x = first_tensor(inputs)
        if not isinstance(x, Tensor) or (x.is_floating_point() and x.dim() < _FEWEST_AXES):
            return None
        if not isinstance(targets, Tensor):
            return None
        if self._settled is None:
            self._settled = settled_axes(self.model, inputs, self.time_dim, None)
        axes, alone = self._settled
        return None if alone else Probe.of(inputs, targets, axes)


def _finite(probe: Probe) -> Tensor:
    """The sequences that are; an infinity in a further argument may be that of a mask, and is left alone."""
    first, axis = first_tensor(probe.inputs), probe.axes.batch
    kept = torch.ones(probe.num_sequences, dtype=torch.bool)
    for x in tensors_among(probe.inputs):
        if x.is_floating_point() and x.dim() > axis and x.size(axis) == probe.num_sequences:
            looked_at = x if x is first else x.nan_to_num(nan=torch.nan, posinf=0.0, neginf=0.0)
            alone = torch.zeros_like(kept)
            alone[finite_rows(looked_at, axis).cpu()] = True
            kept &= alone
    return kept.nonzero().squeeze(1)
