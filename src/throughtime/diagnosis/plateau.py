"""plateau: the loss stands still at what an output without any input reaches."""

from __future__ import annotations

import math
import statistics

import torch
from torch import nn

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import first_output
from throughtime.diagnosis.rates import settled
from throughtime.diagnosis.rehearsal import as_found
from throughtime.measurement.arguments import forward

__all__ = ["STUCK", "find", "output_spread"]

EQUAL = 1e-4
"""Differences between the rows of a weight matrix, relative to its size, below which its units are copies."""

LONG_STEPS = 500
"""A history so long that stands at chance is an error by itself; hard tasks stand there for some hundred steps."""

AT_CHANCE = 0.01
"""Of the chance loss: closer to it is at it."""

STUCK = 1e-3
"""Outputs that differ by less between examples, relative to their size, do not depend on the inputs. Untrained
recurrent networks differ by 0.1 and more; a hard task does not make them alike."""

FEWEST_STEPS = 20


def find(evidence: Evidence) -> Finding | None:
    """Symmetry that training cannot break; a batch of which nothing can be learned; a long history at chance."""
    symmetric = _symmetric(evidence)
    if symmetric is not None:
        return symmetric
    chance = evidence.chance_loss
    if evidence.case.history is not None:
        found = _long(evidence, chance)
        if found is not None:
            return found
    if not evidence.case.optimizers:
        raise Missing("an optimizer, or a watch of some hundred steps with their losses")
    return _stuck(evidence, chance)


def _symmetric(evidence: Evidence) -> Finding | None:
    copies = _copies(evidence.case.model)
    if not copies:
        return None
    trained = _copies(evidence.rehearsal.model)
    names = [name for name in copies if name in trained]
    if not names:
        return None
    losses = evidence.rehearsal.losses
    return Finding(
        "plateau",
        "error",
        1.0,
        f"All {copies[names[0]]} units of {names[0]} are copies of one another, as their weights are equal, and still "
        f"are after {len(losses)} steps of training (loss {losses[0]:.4g} to {settled(losses):.4g}, "
        f"{_chance_told(evidence)}): start from random weights",
        {
            "symmetric": names,
            "num_units": copies[names[0]],
            "loss_first": losses[0],
            "loss_last": settled(losses),
        },
    )


def _chance_told(evidence: Evidence) -> str:
    return f"a constant output has {evidence.chance_loss:.4g}" if evidence.has("chance_loss") else "chance unknown"


def _copies(model: nn.Module) -> dict[str, int]:
    """Modules with recurrent weights whose units all have the same weights, and the number of these."""
    found = {}
    for name, module in model.named_modules():
        weights = [
            (key, parameter)
            for key, parameter in module.named_parameters(recurse=False)
            if parameter.dim() == 2 and parameter.size(0) > 1
        ]
        hidden = getattr(module, "hidden_size", None)
        if not weights or not isinstance(hidden, int) or hidden < 2:
            continue
        if all(_equal_rows(parameter, hidden) for _, parameter in weights):
            found[name or type(module).__name__] = hidden
    return found


def _equal_rows(weight: nn.Parameter, hidden: int) -> bool:
    """Whether all units have the same row, gate by gate."""
    if weight.size(0) % hidden:
        return False
    gates = weight.detach().double().view(-1, hidden, weight.size(1))
    spread = (gates - gates[:, :1]).abs().amax()
    size = gates.abs().amax()
    return bool(torch.isfinite(size)) and float(spread) <= EQUAL * float(size)


def _long(evidence: Evidence, chance: float) -> Finding | None:
    history = evidence.case.history
    assert history is not None
    losses = [loss for loss in history.losses if loss is not None]
    if len(losses) * history.losses_every < LONG_STEPS or len(losses) < 20:
        return None
    last = statistics.median(losses[len(losses) // 2 :])
    scatter = statistics.stdev(losses[len(losses) // 2 :]) / math.sqrt(len(losses) / 2)
    if last < chance - max(AT_CHANCE * abs(chance), 3 * scatter):
        return None
    if statistics.median(losses[: max(3, len(losses) // 10)]) > last + AT_CHANCE * abs(last) + 3 * scatter:
        return None  # it still comes down
    return Finding(
        "plateau",
        "error",
        0.8,
        f"After {history.num_steps} steps the loss is {last:.4g}, where a constant output has {chance:.4g}, and was "
        f"{losses[0]:.4g} in the beginning: nothing is learned from the inputs",
        {"loss_first": losses[0], "loss_last": last, "chance_loss": chance, "num_steps": history.num_steps},
    )


def _stuck(evidence: Evidence, chance: float) -> Finding | None:
    losses = evidence.rehearsal.losses
    here = settled(losses)
    if not math.isfinite(here) or len(losses) < FEWEST_STEPS:
        return None
    if abs(here - chance) > AT_CHANCE * abs(chance) or losses[0] - here > AT_CHANCE * abs(chance):
        return None
    spread = output_spread(evidence)
    if spread > STUCK:
        return None
    return Finding(
        "plateau",
        "error",
        0.9,
        f"{len(losses)} steps of training on one batch take the loss from {losses[0]:.4g} to {here:.4g}, where a "
        f"constant output has {chance:.4g}, and the outputs are the same for all examples to {spread:.1g} of their "
        "size: not even one batch can be learned",
        {"loss_first": losses[0], "loss_last": here, "chance_loss": chance, "output_spread": spread},
    )


def output_spread(evidence: Evidence) -> float:
    """By how much the outputs of the rehearsed model differ between examples, relative to their size."""
    with as_found(evidence.case), torch.no_grad():
        outputs = first_output(forward(evidence.rehearsal.model, evidence.case.inputs)).double()
    rows = outputs.reshape(-1, outputs.size(-1) if outputs.dim() > 1 else 1)
    return float((rows - rows.mean(0)).abs().amax() / rows.abs().amax().clamp_min(1e-30))
