"""overfitting: what was learned of the training examples does not hold for others."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.batches import cut_outputs
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import first_output, mean_loss
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.probe import Probe
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["find"]

LEARNED_SHARE = 0.3
"""Of the loss of a constant output that training has taken away: below it nothing was learned that could be lost."""

ERROR_SHARE = 0.5
"""Of what was gained on the training batch over a constant output, the share that validation does not see."""

WARNING_SHARE = 0.25
"""A model trained to its end on enough examples loses a tenth or two."""

GROUPS = 8
"""Parts into which either batch is cut to see how far such losses scatter."""

SDS = 4.0


def find(evidence: Evidence) -> Finding | None:
    """The batch at hand and the validation batch, both in eval mode, by the model as it is now."""
    case = evidence.case
    if case.validation is None:
        raise Missing("validation=(inputs, targets) that the model is not trained on")
    train, train_error = _loss(evidence, case.inputs, case.targets)
    validation, validation_error = _loss(evidence, *case.validation)
    chance = evidence.chance_loss
    chance_there = evidence.chance_for(*case.validation)
    if not math.isfinite(chance_there):
        raise Missing("a loss that an output which is the same everywhere can be put into")
    gained = chance - train
    if gained < LEARNED_SHARE * abs(chance):
        if case.history is None:  # nobody knows that it was trained at all
            raise Missing(
                f"a model that has learned the batch at hand, or a watch of its training: its loss is {train:.3g}, "
                f"that of a constant output {chance:.3g}"
            )
        return None
    lost = gained - (chance_there - validation)
    error = math.hypot(train_error, validation_error)
    if lost < WARNING_SHARE * gained or lost < SDS * error:
        return None
    share = lost / gained
    return Finding(
        "overfitting",
        "error" if share >= ERROR_SHARE else "warning",
        min(1.0, lost / (2 * SDS * error)) if error > 0 else 1.0,
        f"The loss of the training batch is {train:.3g}, that of the validation batch {validation:.3g}, where a "
        f"constant output has {chance:.3g} and {chance_there:.3g}: {share:.0%} of what was learned does not hold for "
        "other examples",
        {
            "train_loss": train,
            "validation_loss": validation,
            "chance_loss": chance,
            "validation_chance_loss": chance_there,
            "lost_share": share,
            "standard_error": error,
        },
    )


def _loss(evidence: Evidence, inputs: Any, targets: Any) -> tuple[float, float]:
    """The mean loss, and its standard error from that of some groups of sequences."""
    case = evidence.case
    with left_as_found(case.model), torch.no_grad():
        case.model.eval()
        found = evidence.returned_for(inputs)
        whole = float(mean_loss(case.loss, found, targets))
        parts = _losses_of_groups(evidence, found, inputs, targets)
    if not all(map(math.isfinite, (whole, *parts))):
        raise Missing("losses that are finite")
    return whole, statistics.stdev(parts) / math.sqrt(len(parts)) if len(parts) > 1 else 0.0


def _losses_of_groups(evidence: Evidence, found: Any, inputs: Any, targets: Any) -> list[float]:
    """Mean losses of parts of a batch; none where its sequences cannot be told apart.

    Where the model refuses parts, since it keeps a state of a batch's size, its outputs for the whole are cut.
    """
    if not isinstance(targets, Tensor):
        raise Missing("targets that are a tensor")
    case = evidence.case
    probe = Probe.of(inputs, targets, evidence.axes.axes)
    num = min(GROUPS, probe.num_sequences)
    if num < 2:
        raise Missing("at least two sequences in the training batch and in the validation batch")
    groups = [probe.chosen(rows) for rows in torch.arange(probe.num_sequences).chunk(num)]
    if groups[0].num_sequences == probe.num_sequences:
        return []
    try:
        return [float(mean_loss(case.loss, forward(case.model, part.inputs), part.targets)) for part in groups]
    except InputError:
        raise
    except Exception:
        return [float(mean_loss(case.loss, *part)) for part in cut_outputs(first_output(found), probe, num)]
