"""What is wrong with the data: not finite, out of scale, without content, or too short."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis import data_scale, no_signal
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import first_output, mean_loss
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.told_padding import padding_id
from throughtime.diagnosis.trials import lengths_of
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.model_copy import copied
from throughtime.measurement.positions import settled_lengths
from throughtime.measurement.probe import Probe, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["RULES"]

_CONSTANT = 1e-6
"""Spread relative to the mean: that is the resolution of float32, and nothing a model could read."""
_SPARSE = 0.3
"""Share of zeros in the features that vary, from which one that is always zero is one that did not occur."""
_MOST = 0.9
"""Of the features: with so many constant, sparseness is no excuse."""
_FEWEST_POSITIONS = 16
"""Positions, all sequences and steps together: a feature that changes rarely needs some to be seen to."""


def non_finite_data(evidence: Evidence) -> Finding | None:
    """NaN and infinity in what was handed over, and whether they get into the loss."""
    case = evidence.case
    parts = {"inputs": case.inputs, "targets": case.targets}
    if case.validation is not None:
        parts |= {"validation inputs": case.validation[0], "validation targets": case.validation[1]}
    counts = {name: _num_non_finite(part) for name, part in parts.items()}
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        return _of_other_batch(evidence)
    where = next(iter(counts))
    told = " and ".join(f"the {name} hold {count} values" for name, count in counts.items())
    training = any(not name.startswith("validation") for name in counts)
    validation = any(name.startswith("validation") for name in counts)
    harmed = []
    if training and not _is_finite(evidence, case.inputs, case.targets, with_gradient=True):
        harmed.append("the loss or its gradient is not finite with them")
    if validation and case.validation is not None and not _is_finite(evidence, *case.validation, with_gradient=False):
        harmed.append("the loss of the validation batch is not finite with them")
    numbers = {"counts": counts, "first": where, "position": _position(parts[where]), "loss_finite": not harmed}
    reason = " and ".join(harmed) or "the loss and its gradient are finite all the same: they are left out"
    severity = "error" if harmed else "info"
    text = f"{told[0].upper()}{told[1:]} that are NaN or infinite, the first at {numbers['position']}; {reason}"
    return Finding("non-finite-data", severity, 1.0 if harmed else 0.5, text, numbers)


def _of_other_batch(evidence: Evidence) -> Finding | None:
    """A batch of the watched loop that was the first not to be finite; the one at hand is."""
    history = evidence.case.history
    first = history.non_finite if history is not None else None
    if first is None or first["where"] not in ("input", "target"):
        return None
    what = "inputs" if first["where"] == "input" else "targets"
    return Finding(
        "non-finite-data",
        "error",
        1.0,
        f"The {what} of the batch of step {first['step']} hold NaN or infinity, and with them the loss stopped being "
        f"finite; the last step known to be finite is {first['last_finite_step']}",
        {**first, "first": what},
    )


def _floats(part: Any) -> list[Tensor]:
    values = part.values() if isinstance(part, dict) else part if isinstance(part, (tuple, list)) else (part,)
    if isinstance(part, PackedSequence):
        values = (part.data,)
    tensors = [value.data if isinstance(value, PackedSequence) else value for value in values]
    return [
        value for value in tensors if isinstance(value, Tensor) and value.is_floating_point() and not _is_mask(value)
    ]


def _is_mask(value: Tensor) -> bool:
    """0 where attention may look and minus infinity where it may not."""
    blocked = value == -math.inf
    return bool(blocked.any()) and bool((value[~blocked] == 0).all())


def _num_non_finite(part: Any) -> int:
    return sum(int((~value.isfinite()).sum()) for value in _floats(part))


def _position(part: Any) -> list[int]:
    bad = next(value for value in _floats(part) if not bool(value.isfinite().all()))
    found: list[int] = (~bad.isfinite()).nonzero()[0].tolist()
    return found


def _is_finite(evidence: Evidence, inputs: Any, targets: Any, *, with_gradient: bool) -> bool:
    """Whether the loss and the gradients of the weights are; a model that refuses such data is harmed too."""
    model = copied(evidence.case.model).train(evidence.case.model.training and with_gradient)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        with left_as_found(model), torch.set_grad_enabled(with_gradient):
            loss = mean_loss(evidence.case.loss, first_output(forward(model, inputs)), targets)
            if not bool(loss.detach().isfinite().all()):
                return False
            if not with_gradient or not loss.requires_grad or not weights:
                return True
            found = torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception:
        return False
    return all(gradient is None or bool(gradient.isfinite().all()) for gradient in found)


def constant_feature(evidence: Evidence) -> Finding | None:
    """Features of the first input that have one value everywhere, validation data included."""
    x, valid = _positions(evidence)
    if x.size(0) < _FEWEST_POSITIONS:
        raise Missing(f"at least {_FEWEST_POSITIONS} positions of input; there are {x.size(0)}")
    low, high = x.amin(0), x.amax(0)
    constant = high - low <= _CONSTANT * torch.maximum(low.abs(), high.abs())
    count, total = int(constant.sum()), x.size(1)
    if not count:
        return None
    excused = _not_occurring(x, constant) | _is_bias(x, constant)
    dense = constant & ~excused
    severe = bool(dense.any()) or count == total
    names = (dense if severe and bool(dense.any()) else constant).nonzero().flatten().tolist()
    listed = ", ".join(f"{feature} (always {float(low[feature]):g})" for feature in names[:6])
    reason = "" if severe else "; the data are sparse, or it stands for a bias, so it may be meant"
    return Finding(
        "constant-feature",
        "error" if severe else "info",
        0.9 if severe else 0.3,
        f"{len(names)} of {total} input feature{'s' if total > 1 else ''} never change over {x.size(0)} positions"
        f"{' of training and validation' if valid else ''}: {listed}{reason}",
        {"features": names, "share": count / total, "num_positions": int(x.size(0)), "values": low[names].tolist()},
    )


def _positions(evidence: Evidence) -> tuple[Tensor, bool]:
    """(N, F) of all steps that are not padding, and whether the validation data are among them."""
    x = first_tensor(evidence.case.inputs)
    if isinstance(x, PackedSequence):
        found = [_flat(x.data)]
    else:
        axes = evidence.axes.axes
        probe = Probe.of(evidence.case.inputs, None, axes)
        lengths = lengths_of(evidence.case, probe)
        moved = x.movedim((axes.time, axes.batch), (0, 1))
        if lengths is None:
            found = [_flat(moved.flatten(0, 1))]
        else:
            inside = torch.arange(moved.size(0)).unsqueeze(1) < lengths
            found = [_flat(moved[inside.to(x.device)])]
    more = _of_validation(evidence, found[0].size(1))
    return torch.cat([*found, more]) if more is not None else found[0], more is not None


def _flat(x: Tensor) -> Tensor:
    """(N, F), float64."""
    return x.detach().cpu().double().reshape(x.size(0), -1)


def _of_validation(evidence: Evidence, num_features: int) -> Tensor | None:
    if evidence.case.validation is None:
        return None
    x = first_tensor(evidence.case.validation[0])
    if isinstance(x, PackedSequence):
        x = x.data.unsqueeze(0)
    if x.dim() < 2:
        return None
    flat = _flat(x.flatten(0, 1))
    return flat if flat.size(1) == num_features else None


def _not_occurring(x: Tensor, constant: Tensor) -> Tensor:
    """(F,) features of sparse data (one-hot parts, counts, images) that are always zero."""
    always_zero = constant & (x[0] == 0)
    varying = x[:, ~constant]
    if not varying.numel() or float(constant.double().mean()) > _MOST:
        return torch.zeros_like(constant)
    zeros = (varying == 0).double().mean(0)
    sparse = (zeros >= _SPARSE) & (varying >= 0).all(0)
    return (
        always_zero if int(sparse.sum()) >= 2 and float(sparse.double().mean()) >= 0.5 else torch.zeros_like(constant)
    )


def _is_bias(x: Tensor, constant: Tensor) -> Tensor:
    """(F,) the one constant feature, if it is 1 throughout: a bias that was appended on purpose."""
    ones = constant & (x[0] == 1)
    return ones if int(constant.sum()) == 1 and x.size(1) > 1 else torch.zeros_like(constant)


def sequence_too_short(evidence: Evidence) -> Finding | None:
    """The longest sequence, against the steps of memory that the task is known to need."""
    need = evidence.case.need
    if need is None:
        if (cut := _cut_to_fit(evidence)) is not None:
            return cut
        raise Missing("need=, the steps of memory that the task needs: data cannot show a need longer than themselves")
    if evidence.case.window is not None and evidence.num_steps <= evidence.case.window:
        return None  # what is at hand is a piece of something longer
    x = first_tensor(evidence.case.inputs)
    axes = settled = None
    try:
        axes = evidence.axes.axes
        settled = settled_lengths(evidence.case.lengths, Probe.of(evidence.case.inputs, None, axes))
    except InputError as error:
        raise Missing(f"lengths of the sequences: {error}") from error
    longest = int(settled.max())
    if need < longest:
        return None
    batch = x.batch_sizes[0] if isinstance(x, PackedSequence) else x.size(axes.batch)
    return Finding(
        "sequence-too-short",
        "error",
        0.95,
        f"The task needs {need} steps of memory, and the longest of {int(batch)} sequences has {longest}: no example "
        "holds both the cause and its effect",
        {"need": need, "longest": longest, "median": float(settled.double().median())},
    )


def _cut_to_fit(evidence: Evidence) -> Finding | None:
    """Texts that a script has cut to one length: there is an id for padding, none is padded, and nothing is told.

    Raises:
        Missing: where the batch has no axes, or the model cannot be tried.
    """
    x, targets = evidence.x, evidence.case.targets
    whole = isinstance(targets, Tensor) and tuple(targets.shape[:2]) != tuple(x.shape[:2])
    if evidence.case.lengths is not None or x.is_floating_point() or x.dim() != 2 or not whole:
        return None
    trial = evidence.trials
    padding = padding_id(trial, trial.time_first(trial.aligned()[0]))
    if padding is None or bool((x == padding).any()) or no_signal.find(evidence) is None:
        return None
    num_steps, batch = evidence.num_steps, evidence.num_sequences
    return Finding(
        "sequence-too-short",
        "error",
        0.5,
        f"All {batch} sequences fill their {num_steps} steps, though there is an id for padding ({padding}), and they "
        "say nothing about the target: they look as if they had been cut, and what tells left out",
        {"longest": num_steps, "padding_id": padding},
        follows="no-signal",
    )


RULES: tuple[Rule, ...] = (
    Rule("non-finite-data", non_finite_data),
    Rule("constant-feature", constant_feature),
    *data_scale.RULES,
    Rule("sequence-too-short", sequence_too_short),
)
