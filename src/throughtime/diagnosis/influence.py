"""How much the outputs change when inputs are replaced by those of another sequence: whether the past is heard at all.

Unlike `throughtime.use` it asks for no loss and no training: an untrained recurrent network lets older inputs into its
outputs too, unless something keeps them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.measurement.arguments import replaced

if TYPE_CHECKING:
    from throughtime.diagnosis.evidence import Evidence

__all__ = ["influence"]


def influence(evidence: Evidence, lag: int = 0) -> float:
    """Replace the inputs older than a lag before the end of each sequence by those of another one.

    Args:
        evidence: of the case.
        lag: k; with 0, all but the input at the last step are replaced.

    Returns:
        The change of the output at the last step, relative to the change when all inputs are replaced.

    Raises:
        Missing: with a single sequence, or inputs that are not a tensor.
    """
    axes, x = evidence.axes.axes, evidence.x
    if evidence.num_sequences < 2:
        raise Missing("at least two sequences, so that one can lend its inputs to the other")
    last = _last_steps(evidence)
    intact = _at_end(evidence, evidence.outputs, last)
    steps = torch.arange(evidence.num_steps).unsqueeze(1)
    moved = x.movedim((axes.time, axes.batch), (0, 1))
    lent = moved.roll(1, 1)

    def changed(older_than: int) -> float:
        older = (steps < last - older_than).to(x.device).view(*moved.shape[:2], *[1] * (moved.dim() - 2))
        mixed = torch.where(older, lent, moved).movedim((0, 1), (axes.time, axes.batch)).contiguous()
        outputs = evidence.outputs_for(replaced(evidence.case.inputs, x, mixed))
        return float((_at_end(evidence, outputs, last) - intact).double().square().mean().sqrt())

    everything = changed(-1)
    if not everything > 0:
        raise Missing("outputs that depend on the inputs at all")
    return changed(lag) / everything


def _last_steps(evidence: Evidence) -> Tensor:
    """(B,), the last step of each sequence."""
    lengths = evidence.case.lengths
    if lengths is None:
        return torch.full((evidence.num_sequences,), evidence.num_steps - 1)
    return torch.as_tensor(lengths).cpu().long() - 1


def _at_end(evidence: Evidence, outputs: Tensor, last: Tensor) -> Tensor:
    """The outputs at the last step of each sequence, where they have an axis of time, else as they are."""
    axes = evidence.axes.axes
    sizes = (evidence.num_steps, evidence.num_sequences)
    for time, batch in ((axes.time, axes.batch), (axes.batch, axes.time)):
        if outputs.dim() > max(time, batch) and (outputs.size(time), outputs.size(batch)) == sizes:
            moved = outputs.movedim((time, batch), (0, 1))
            return moved[last.to(outputs.device), torch.arange(sizes[1], device=outputs.device)]
    return outputs
