"""Outputs of parts of a batch, where a model runs on batches of one size alone, as one that keeps a state does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.case import Case
from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.probe import Axes, Probe
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["cut_outputs", "outputs_of_batches", "returned"]


def returned(case: Case, inputs: Any) -> Any:
    """Whatever the model of a case returns for some inputs, without gradients; it is left as it was.

    Raises:
        InputError: if it fails.
    """
    with left_as_found(case.model), torch.no_grad():
        try:
            return forward(case.model, inputs)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the model fails on these inputs ({type(error).__name__}: {error}): hand over what it is called "
                "with, several arguments as a tuple"
            ) from error


def outputs_of_batches(case: Case, inputs: Any, axes: Axes) -> Tensor:
    """The first outputs for inputs that are several times as many as the case's own, so many at a time.

    Raises:
        InputError: if they are not, if the model fails, or if its outputs do not tell sequences apart.
    """
    size, whole = Probe.of(case.inputs, None, axes).num_sequences, Probe.of(inputs, None, axes)
    batches = [whole.chosen(rows) for rows in torch.split(torch.arange(whole.num_sequences), size)]
    if len(batches) < 2 or any(batch.num_sequences != size for batch in batches):
        raise InputError(f"expected a multiple of {size} sequences, not {whole.num_sequences}")
    found = [first_output(returned(case, batch.inputs)) for batch in batches]
    flat = [_is_flat(outputs, batch) for outputs, batch in zip(found, batches, strict=True)]
    found = [batch.unflattened(y) if joined else y for y, joined, batch in zip(found, flat, batches, strict=True)]
    axis = batches[0].axis_of_sequences(found[0])
    if axis is None:
        raise InputError(f"outputs of shape {tuple(found[0].shape)} have no axis of {size} sequences")
    outputs = torch.cat(found, axis)
    return outputs.flatten(0, 1) if flat[0] else outputs


def cut_outputs(outputs: Tensor, whole: Probe, parts: int) -> list[tuple[Tensor, Tensor | None]]:
    """Outputs and targets of so many parts of a batch, as its loss takes them.

    Raises:
        InputError: if outputs or targets do not tell sequences apart.
    """
    flat = _is_flat(outputs, whole)
    apart = replace(whole, inputs=whole.unflattened(outputs) if flat else outputs)
    if apart.axis_of_sequences(apart.inputs) is None:
        raise InputError(f"outputs of shape {tuple(outputs.shape)} have no axis of {whole.num_sequences} sequences")
    found = [apart.chosen(rows) for rows in torch.arange(whole.num_sequences).chunk(parts)]
    return [(part.inputs.flatten(0, 1) if flat else part.inputs, part.targets) for part in found]


def _is_flat(outputs: Tensor, whole: Probe) -> bool:
    """Whether time and sequences lie in one axis."""
    return whole.num_steps > 1 and outputs.dim() > 1 and outputs.size(0) == whole.num_steps * whole.num_sequences
