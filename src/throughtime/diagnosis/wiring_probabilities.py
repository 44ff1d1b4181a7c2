"""`probabilities-into-cross-entropy`: a softmax or sigmoid before a loss that has one of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import first_output, mean_loss
from throughtime.diagnosis.rule import Rule
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.model_copy import copied

__all__ = ["RULES"]

_SUM = 1e-3
"""By how much a sum of probabilities may differ from 1: half precision."""
_UNCHANGED = 1e-4
"""Relative change of the loss that is round-off."""
_FAR = 20.0
"""Of a logit: a sigmoid of it is 0 or 1 but for 2e-9."""
_LINEAR = 0.1
"""By how much the loss at twice as wrong a logit may differ from twice the loss."""
_FEWEST_POSITIONS = 8
"""One or two rows may sum to 1 by chance."""
_SHAPING = (
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Permute",
    "TBackward",
    "Select",
    "Slice",
    "Index",
    "Clone",
    "Expand",
    "Alias",
)
"""Operations in a graph that only move numbers."""


def probabilities_into_cross_entropy(evidence: Evidence) -> Finding | None:
    """Outputs that are probabilities, and a loss that does not change when a constant is added to all classes."""
    outputs, targets = evidence.outputs.float(), evidence.case.targets
    if (
        not bool(outputs.isfinite().all())
        or outputs.numel() < 2
        or float(outputs.min()) < 0
        or float(outputs.max()) > 1
    ):
        return None

    def loss(changed: Tensor) -> float:
        return float(mean_loss(evidence.case.loss, changed.to(evidence.outputs.dtype), targets))

    try:
        for axis in range(outputs.dim() - 1, 0, -1):
            if _sums_to_one(outputs, axis):
                return _softmax_twice(outputs, axis, loss)
        return _sigmoid_twice(evidence, outputs, loss)
    except InputError as error:
        raise Missing(f"a loss that other outputs of the same shape can be put into: {error}") from error


def _sums_to_one(outputs: Tensor, axis: int) -> bool:
    """At every position but those that are all zero, as padding may be."""
    if outputs.size(axis) < 2:
        return False
    sums = outputs.sum(axis)
    counted = sums != 0
    return int(counted.sum()) >= _FEWEST_POSITIONS and bool(((sums[counted] - 1).abs() < _SUM).all())


def _softmax_twice(outputs: Tensor, axis: int, loss: Callable[[Tensor], float]) -> Finding | None:
    generator = torch.Generator().manual_seed(0)
    shape = [1 if at == axis else size for at, size in enumerate(outputs.shape)]
    now = loss(outputs)
    shifted = loss(outputs + torch.randn(shape, generator=generator).to(outputs.device))
    logs = loss(outputs.clamp(min=1e-30).log())
    unit = max(abs(now), abs(logs), 1e-6)
    if abs(shifted - now) > _UNCHANGED * unit or (
        abs(logs - now) <= _UNCHANGED * unit and abs(loss(3 * outputs) - now) <= _UNCHANGED * unit
    ):
        return None
    classes = outputs.size(axis)
    least = math.log(math.e + classes - 1) - 1
    return Finding(
        "probabilities-into-cross-entropy",
        "error",
        0.99,
        f"The outputs sum to 1 over {classes} classes, and the loss applies a softmax of its own (a constant added "
        f"to all classes changes it by {abs(shifted - now):.1g}): it is {now:.4g}, {logs:.4g} of the logarithms, and "
        f"cannot fall below {least:.3g}",
        {"activation": "softmax", "num_classes": classes, "loss": now, "loss_of_logarithms": logs, "least_loss": least},
    )


def _sigmoid_twice(evidence: Evidence, outputs: Tensor, loss: Callable[[Tensor], float]) -> Finding | None:
    targets = evidence.case.targets
    if not isinstance(targets, Tensor) or targets.numel() != outputs.numel() or not _is_sigmoid(evidence):
        return None
    if not bool(((targets == 0) | (targets == 1)).all()):
        return None
    signs = (2 * targets.to(outputs.dtype) - 1).reshape(outputs.shape)
    try:
        right, wrong, twice = (loss(scale * _FAR * signs) for scale in (1, -1, -2))
    except InputError:
        return None  # a loss of probabilities refuses what is none
    linear = abs(twice - 2 * wrong) <= _LINEAR * abs(wrong)
    if not linear or not wrong > 0 or abs(right) > _UNCHANGED * wrong:
        return None
    now, least = loss(outputs), math.log1p(math.exp(-1))
    return Finding(
        "probabilities-into-cross-entropy",
        "error",
        0.98,
        f"The outputs come from a sigmoid, and the loss takes them for logits ({right:.1g} at {_FAR:g} to the right "
        f"side, {wrong:.3g} at {_FAR:g} to the wrong one): it is {now:.4g}, and cannot fall below "
        f"{least * float((targets == 1).double().mean()) + math.log(2) * float((targets == 0).double().mean()):.3g}",
        {"activation": "sigmoid", "loss": now, "loss_of_right_logits": right, "loss_of_wrong_logits": wrong},
    )


def _is_sigmoid(evidence: Evidence) -> bool:
    """Whether the last operation of the model that computes anything is a sigmoid."""
    case = evidence.case
    try:
        with torch.random.fork_rng(devices=()), torch.enable_grad():
            node = first_output(forward(copied(case.model), case.inputs)).grad_fn
    except Exception as error:
        raise Missing(f"a model that runs ({type(error).__name__}: {error})") from error
    while node is not None and any(word in node.name() for word in _SHAPING):
        node = node.next_functions[0][0]
    return node is not None and "SigmoidBackward" in node.name() and "LogSigmoid" not in node.name()


RULES = (Rule("probabilities-into-cross-entropy", probabilities_into_cross_entropy),)
