"""Steps at which most of the loss is left, where these are few: an answer at the end of blanks, say.

Of targets for every step most may be told by the newest input, or be always the same. Then the data need no memory by
most of what they tell, and the loss falls; and yet what the model is for is not learned. So what is left is looked at
by itself: the same batch, of which only the targets at these steps count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import IGNORED, mean_loss

__all__ = ["HardSteps", "hard_steps"]

_MOST_STEPS = 512
"""Of sequences: each step's loss is asked for."""
_HARD = 0.5
"""Of the loss of the step that is the hardest."""
_FEW = 0.25
"""Of all steps."""
_MOST_OF_LOSS = 0.5
_ALIKE = 0.05
"""Share by which the losses of the steps may differ from that of the batch: a loss that weighs its steps is another."""


@dataclass(frozen=True)
class HardSteps:
    """Few steps, and what is known of them.

    Attributes:
        evidence: of the batch with the targets at these steps alone, as if it were not watched.
        steps: in their order.
        share: of the whole loss that is left there.
    """

    evidence: Evidence
    steps: tuple[int, ...]
    share: float

    def told(self, finding: Finding) -> Finding:
        """A finding about them, that says so."""
        first, last = self.steps[0], self.steps[-1]
        which = f"step {first}" if first == last else f"{len(self.steps)} steps from {first} to {last}"
        summary = (
            f"{finding.summary.rstrip('.')}. This is of {which} alone, where {self.share:.0%} of the loss is left."
        )
        return replace(finding, summary=summary, evidence={**finding.evidence, "hard_steps": self.steps})


def hard_steps(evidence: Evidence) -> HardSteps | None:
    """The steps that hold most of the loss; None where there are none, or where losses of single steps are not known.

    Raises:
        Missing: if the batch has no axes of time and sequences.
        InputError: if its loss fails.
    """
    case = evidence.case
    y, time = case.targets, evidence.axes.axes.time
    if case.need is not None or case.window is not None or not _of_steps(y, evidence.x):
        return None
    if not 1 / _FEW <= y.size(time) <= _MOST_STEPS:
        return None
    counts = (y != IGNORED).sum(1 - time).double()
    losses = torch.stack([_loss_at(evidence, y, time, step) for step in range(y.size(time))]) * counts
    total = float(losses.sum())
    if not total > 0 or abs(total / float(counts.sum()) - evidence.batch_loss) > _ALIKE * abs(evidence.batch_loss):
        return None
    by_step = losses / counts.clamp(min=1)
    hard = by_step > _HARD * by_step.max()
    share = float(losses[hard].sum()) / total
    if int(hard.sum()) > _FEW * len(hard) or share < _MOST_OF_LOSS or bool((counts[~hard] == 0).all()):
        return None
    validation = None if case.validation is None else _only_in(case.validation, hard, time)
    alone = replace(case, targets=_only(y, hard, time), validation=validation, history=None)
    return HardSteps(Evidence(alone), tuple(hard.nonzero().flatten().tolist()), share)


def _of_steps(y: Any, x: Tensor) -> bool:
    """Whether targets are a class for every step, as the inputs lie."""
    return isinstance(y, Tensor) and y.dtype == torch.int64 and y.dim() == 2 and y.shape == x.shape[:2]


def _loss_at(evidence: Evidence, y: Tensor, time: int, step: int) -> Tensor:
    """The mean loss of the targets of one step; 0 where there is none."""
    where = torch.zeros(y.size(time), dtype=torch.bool)
    where[step] = True
    alone = _only(y, where, time)
    if not bool((alone != IGNORED).any()):
        return torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        return mean_loss(evidence.case.loss, evidence.outputs, alone).double().cpu()


def _only(y: Tensor, steps: Tensor, time: int) -> Tensor:
    """Targets of which those at other steps are ignored."""
    kept = steps.to(y.device).unsqueeze(1 - time)
    return torch.where(kept, y, torch.full_like(y, IGNORED))


def _only_in(validation: tuple[Any, Any], steps: Tensor, time: int) -> tuple[Any, Any] | None:
    """The same of other data; None where these have other steps."""
    inputs, y = validation
    fits = isinstance(y, Tensor) and y.dtype == torch.int64 and y.dim() == 2 and y.size(time) == len(steps)
    return (inputs, _only(y, steps, time)) if fits else None
