"""`batch-mixing`: what one example gives depends on another that happens to be in the same batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from throughtime.diagnosis.axis_order import ordered_axes
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.trials import SEEN, Trials, change, trials
from throughtime.measurement.probe import Axes

__all__ = ["RULES"]

_FEWEST_SHUFFLED = 2
"""Sequences whose inputs can change places; fewer cannot tell a statistic of the batch from its members."""


@dataclass(frozen=True)
class _Mixing:
    """By how much half of the sequences change when the others do, relative to how these change.

    Attributes:
        replaced: with the others replaced by other sequences.
        shuffled: with the inputs of the others dealt out anew among them at every step, which leaves every statistic
            of the inputs over the batch as it was; NaN where there are too few.
    """

    replaced: float
    shuffled: float


def batch_mixing(evidence: Evidence) -> Finding | None:
    """Half of the sequences are replaced, and the others must give the same numbers as before."""
    found = _in_either_order(evidence)
    if found is None:
        return _wrong_axis(evidence) or _in_training(evidence)
    if found.replaced <= SEEN:
        return _wrong_axis(evidence) or _in_training(evidence)
    numbers = {"cross_effect": found.replaced, "cross_effect_with_equal_statistics": found.shuffled, "mode": "eval"}
    if found.shuffled <= SEEN:
        return Finding(
            "batch-mixing",
            "warning",
            0.8,
            f"Replacing half of the sequences changes the outputs of the others by {found.replaced:.2g} of their own "
            "change, in eval mode, through statistics of the inputs over the batch: a prediction depends on what "
            "else is in its batch",
            numbers,
        )
    conflict = evidence.axes.conflict if evidence.has("axes") else False
    cause = ": the recurrent modules read the axis of the sequences as time (batch_first)" if conflict else ""
    return Finding(
        "batch-mixing",
        "error",
        0.99,
        f"Replacing half of the sequences of a batch changes the outputs of the others, which were left as they are, "
        f"by {found.replaced:.2g} of what it changes their own, in eval mode{cause}",
        {**numbers, "conflicting_axes": conflict},
    )


def _in_either_order(evidence: Evidence) -> _Mixing | None:
    """Where time is; where nothing tells it, only what mixes whichever axis it is; None where neither can be tried."""
    if evidence.has("axes"):
        return _mixing(evidence.trials)
    found = []
    for axes in (Axes(0, 1), Axes(1, 0)):
        found.append(_mixing(trials(evidence.case, axes)))
    return min(found, key=lambda mixing: mixing.replaced)


def _mixing(trial: Trials) -> _Mixing:
    num_steps, batch = trial.sizes
    if batch < 2:
        raise Missing("at least two sequences in the batch")
    if not trial.by_sequence(trial.intact):
        raise Missing(f"outputs with an axis of {batch} sequences; they have shape {tuple(trial.intact.shape)}")
    others = torch.arange(batch) % 2 == 1
    replaced = _cross(trial, trial.outputs(trial.replaced(others.expand(num_steps, batch))), others)
    if replaced > SEEN and _of_pairs(trial):
        return _Mixing(0.0, 0.0)
    if replaced <= SEEN or int(others.sum()) < _FEWEST_SHUFFLED:
        return _Mixing(replaced, float("nan"))
    return _Mixing(replaced, _cross(trial, trial.outputs(_shuffled(trial, others)), others))


def _cross(trial: Trials, outputs: Tensor, others: Tensor) -> float:
    """The least over all ways to read the outputs: a claim has to hold in each."""
    shares = []
    for intact, now in zip(trial.by_sequence(trial.intact), trial.by_sequence(outputs), strict=True):
        moved = change(intact, now)
        own = moved[others].square().mean().sqrt()
        if not own > 0:
            raise Missing("outputs that depend on the inputs")
        shares.append(float(moved[~others].square().mean().sqrt() / own))
    return min(shares)


def _of_pairs(trial: Trials) -> bool:
    """Whether every output is of a pair of sequences: scores of each with each, as a contrastive loss compares them.

    Then of every sequence that is left as it is the same outputs change, those with a replaced one, and as large a
    share of them as that of the replaced ones. Which are replaced is drawn: halves that are mixed row by row look alike
    under an order.
    """
    num_steps, batch = trial.sizes
    others = torch.zeros(batch, dtype=torch.bool)
    others[torch.randperm(batch, generator=torch.Generator().manual_seed(1))[: batch // 2]] = True
    now = trial.outputs(trial.replaced(others.expand(num_steps, batch)))
    for before, after in zip(trial.by_sequence(trial.intact), trial.by_sequence(now), strict=True):
        moved = (before != after)[~others]
        if bool((moved == moved[:1]).all()) and int(moved[0].sum()) * batch == int(others.sum()) * moved.size(1):
            return True
    return False


def _shuffled(trial: Trials, others: Tensor) -> object:
    """The inputs of the others dealt out anew among them, at every step on its own."""
    generator = torch.Generator().manual_seed(0)
    rows = others.nonzero().flatten()
    inputs = trial.probe.inputs
    deals = torch.stack([rows[torch.randperm(rows.numel(), generator=generator)] for _ in range(trial.sizes[0])])
    steps = torch.arange(trial.sizes[0]).unsqueeze(1)
    for x in trial.aligned():
        moved = trial.time_first(x).clone()
        moved[:, rows] = moved[steps, deals]
        inputs = trial.put(inputs, x, moved)
    return inputs


def _wrong_axis(evidence: Evidence) -> Finding | None:
    """Where only the modules say which axis is time: whether the data say the contrary."""
    if not evidence.has("axes") or evidence.axes.by != "modules":
        return None
    axes = evidence.axes.axes
    order = ordered_axes(evidence)
    if order is None or not order.contradicts(axes):
        return None
    along, across = order.deviations[axes.time], order.deviations[axes.batch]
    return Finding(
        "batch-mixing",
        "error",
        0.9,
        f"The recurrent modules read axis {axes.time} as time, along which the data could stand in any order "
        f"({along:.1f} standard deviations from chance); they have an order along axis {axes.batch} ({across:.1f}), "
        "which the modules take for the sequences (batch_first)",
        {"time_of_modules": axes.time, "deviations": list(order.deviations), "mode": "data"},
    )


def _in_training(evidence: Evidence) -> Finding | None:
    """Ordinary batch normalisation, which is worth knowing and no more."""
    model = evidence.case.model
    kinds = sorted(
        {type(module).__name__ for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    )
    if not kinds:
        return None
    return Finding(
        "batch-mixing",
        "info",
        0.5,
        f"{', '.join(kinds)} mixes the sequences of a batch in training, as it is meant to; in eval mode none of them "
        "depends on another",
        {"modules": kinds, "mode": "train"},
    )


RULES = (Rule("batch-mixing", batch_mixing),)
