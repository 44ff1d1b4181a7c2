"""Inputs and targets from which need is told: the more sequences, the weaker a dependence can be and still be seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.case import Case, Missing
from throughtime.measurement.arguments import opened
from throughtime.measurement.probe import Axes, first_tensor

__all__ = ["of_need"]


def of_need(case: Case, x: Tensor, axes: Axes) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, targets and lengths: those of the batch, with those of the validation data behind where they fit.

    Args:
        case: whose data it is.
        x: its first input tensor.
        axes: where time and the sequences lie in it.

    Raises:
        Missing: if the targets are no tensor.
    """
    y = case.targets
    if not isinstance(y, Tensor):
        raise Missing("targets that are a tensor")
    lengths = None if case.lengths is None else torch.as_tensor(case.lengths).cpu()
    return _with_validation(case, x, y, lengths, axes) or (x, y, lengths)


def _with_validation(
    case: Case, x: Tensor, y: Tensor, lengths: Tensor | None, axes: Axes
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Both batches as one; None where they have not the same form."""
    if case.validation is None:
        return None
    inputs, targets = case.validation
    more = first_tensor(inputs)
    if lengths is not None:
        of_more = _lengths_among(case.inputs, inputs, lengths)
        if of_more is None or not isinstance(more, Tensor) or more.dim() != x.dim() or y.dim() > 1:
            return None
        longest = max(x.size(axes.time), more.size(axes.time))
        x, more = (_padded(part, axes.time, longest) for part in (x, more))
        lengths = torch.cat([lengths, of_more.cpu()])
    of_targets = axes.batch if y.dim() > 1 and tuple(y.shape[:2]) == tuple(x.shape[:2]) else 0
    if not (_same_but(more, x, axes.batch) and _same_but(targets, y, of_targets)):
        return None
    return torch.cat([x, more], axes.batch), torch.cat([y, targets], of_targets), lengths


def _same_but(one: Any, other: Tensor, axis: int) -> bool:
    """Whether they differ in nothing but the size of one axis."""
    if not isinstance(one, Tensor) or one.dim() != other.dim() or one.dtype != other.dtype:
        return False
    return all(a == b for at, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if at != axis)


def _lengths_among(inputs: Any, others: Any, lengths: Tensor) -> Tensor | None:
    """What stands in other inputs where these have the lengths of their sequences."""
    inputs, others = opened(inputs), opened(others)
    pairs = inputs.items() if isinstance(inputs, dict) else enumerate(inputs) if isinstance(inputs, tuple) else ()
    for key, value in pairs:
        if isinstance(value, Tensor) and value.shape == lengths.shape and torch.equal(value.cpu(), lengths):
            found = others[key]
            return found if isinstance(found, Tensor) else None
    return None


def _padded(x: Tensor, time: int, steps: int) -> Tensor:
    """With zeros behind, up to so many steps."""
    shape = list(x.shape)
    shape[time] = steps - x.size(time)
    return torch.cat([x, x.new_zeros(shape)], time)
