"""Whether what a model is called with beside its first tensor says something about the target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import NEED_ROWS, Evidence
from throughtime.diagnosis.trials import are_lengths
from throughtime.errors import InputError
from throughtime.measurement import need
from throughtime.measurement.arguments import arguments
from throughtime.measurement.blocks import need_by_blocks
from throughtime.measurement.probe import Probe, first_tensor

__all__ = ["other_inputs_tell"]


def other_inputs_tell(evidence: Evidence) -> bool:
    """Whether a lag, or a block of lags, of any other tensor does; of a table (B, F) or (B,), any column.

    Masks, lengths, and what is the same for all sequences are left out.

    Args:
        evidence: of the case.

    Raises:
        Missing: if that cannot be told of one of them.
    """
    targets = evidence.case.targets
    first = first_tensor(evidence.case.inputs)
    probe = Probe.of(evidence.case.inputs, None, evidence.axes.axes)
    for at, value in enumerate(arguments(evidence.case.inputs)):
        if not isinstance(value, Tensor) or value is first or value.dtype == torch.bool:
            continue
        axis = probe.axis_of_sequences(value)
        if axis is None or bool((value == value.roll(1, axis)).all()) or are_lengths(value, probe):
            continue
        x, y = _with_validation(evidence, at, value, axis, targets)
        if x.dim() == 1 or (x.dim() == 2 and axis == 0 and x.is_floating_point()):
            x, axis = x.reshape(1, x.size(0), -1), 1  # a table: one step
            x = x if x.is_floating_point() else x.double()
        try:
            about: dict[str, Any] = {"time_dim": 1 - axis, "seed": evidence.case.seed}
            lag = need(x, y, **about, num_rows=NEED_ROWS, information="variance").need
            if lag is not None or need_by_blocks(x, y, **about) is not None:
                return True
        except InputError as error:
            raise Missing(f"another input than the first that need can be told from: {error}") from error
    return False


def _with_validation(evidence: Evidence, at: int, value: Tensor, axis: int, targets: Any) -> tuple[Tensor, Any]:
    """The tensor and the targets, with those of the validation data behind where they fit."""
    if evidence.case.validation is None or not isinstance(targets, Tensor) or targets.size(0) != value.size(axis):
        return value, targets
    inputs, more = evidence.case.validation
    others = arguments(inputs)
    if at >= len(others) or not isinstance(others[at], Tensor) or not isinstance(more, Tensor):
        return value, targets
    try:
        return torch.cat([value, others[at]], axis), torch.cat([targets, more])
    except RuntimeError:
        return value, targets
