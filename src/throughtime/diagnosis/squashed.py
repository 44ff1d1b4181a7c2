"""The share of tanh and sigmoid values in their flat part, in whatever a model computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError
from throughtime.measurement import spectrum
from throughtime.measurement.arguments import forward
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["squashed_share"]

_FLAT = 0.1
"""Slope, relative to the largest: as `throughtime.spectrum` counts saturation."""


def squashed_share(model: nn.Module, inputs: Any) -> float | None:
    """Over all units and gates, steps and sequences; None where there is neither tanh nor sigmoid to be seen.

    The values are those that autograd keeps for the way back; of a compiled recurrence, which keeps none, the spectrum
    has them.
    """
    with left_as_found(model), torch.enable_grad(), _no_fused_kernels():
        try:
            found = _values(first_output(forward(model, inputs)))
        except Exception as error:
            raise Missing(f"a model that takes inputs of another scale ({type(error).__name__}: {error})") from error
    if found[1]:
        return found[0] / found[1]
    try:
        layers = spectrum(model, inputs, 1, num_sequences=2, singular_values=False).layers.values()
    except InputError:
        return None
    shares = [low + high for layer in layers for low, high in (layer.saturation or {}).values()]
    return sum(shares) / len(shares) if shares else None


def _values(outputs: Tensor) -> tuple[int, int]:
    """Saturated ones and all of them, over the graph of the outputs."""
    saturated = total = 0
    seen, stack = set(), [outputs.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        value = getattr(node, "_saved_result", None)
        if isinstance(value, Tensor) and node.name() in ("TanhBackward0", "SigmoidBackward0"):
            slope = 1 - value.square() if node.name() == "TanhBackward0" else 4 * value * (1 - value)
            saturated += int((slope < _FLAT).sum())
            total += value.numel()
        stack += [parent for parent, _ in node.next_functions]
    return saturated, total


@contextmanager
def _no_fused_kernels() -> Iterator[None]:
    """An LSTM in oneDNN keeps no values of its gates; torch's own warning about the switch is not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            yield
