"""Positions at which most of the loss is left, where these are few: an answer at the end of blanks, ambiguous words.

Of targets for every step most may be told by the newest input, or be always the same. Then the data need no memory by
most of what they tell, and the loss falls; and yet what the model is for is not learned. So what is left is looked at
by itself: the same batch, of which only the targets at these positions count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.losses import IGNORED, mean_loss
from throughtime.measurement.probe import first_tensor

__all__ = ["HardPositions", "hard_positions"]

STEPS, IDS = "hard_steps", "hard_ids"
"""What positions are told apart by: the step, or the id that is read there."""

_MOST_GROUPS = 512
"""Steps or ids: the loss of each is asked for."""
_HARD = 0.5
"""Of the loss of the step, or of the id, that is the hardest."""
_FEW = 0.25
"""Of all positions."""
_MOST_OF_LOSS = 0.5
_ALIKE = 0.05
"""Share by which the losses of the groups may differ from that of the batch: a loss that weighs them is another."""
_FEWEST_ALIKE = 8
"""Positions with an id: the loss of fewer is chance."""


@dataclass(frozen=True)
class HardPositions:
    """Few positions, and what is known of them.

    Attributes:
        evidence: of the batch with the targets there alone, as if it were not watched.
        kind: what they are told apart by, "hard_steps" or "hard_ids".
        which: the steps, or the ids; ascending.
        share: of the whole loss that is left there.
    """

    evidence: Evidence
    kind: str
    which: tuple[int, ...]
    share: float

    def told(self, finding: Finding) -> Finding:
        """A finding about them, that says so."""
        summary = f"{finding.summary.rstrip('.')}. This is of {self._words} alone, where {self.share:.0%} of the loss "
        return replace(finding, summary=f"{summary}is left.", evidence={**finding.evidence, self.kind: self.which})

    @property
    def _words(self) -> str:
        first, last = self.which[0], self.which[-1]
        if self.kind == STEPS:
            return f"step {first}" if first == last else f"{len(self.which)} steps from {first} to {last}"
        some = ", ".join(map(str, self.which[:5])) + ", ..." * (len(self.which) > 5)
        return f"the steps that read the id {some}" if first == last else f"the steps that read one of the ids {some}"


def hard_positions(evidence: Evidence) -> HardPositions | None:
    """The positions that hold most of the loss; None where there are none, or where losses of few are not known.

    Steps are looked at first; and where none stand out, what is read there.

    Raises:
        Missing: if the batch has no axes of time and sequences.
        InputError: if its loss fails.
    """
    case, x = evidence.case, evidence.x
    if case.need is not None or case.window is not None or not _of_steps(case.targets, x):
        return None
    found = _hardest(evidence, STEPS)
    if found is None and x.dtype == torch.int64 and x.dim() == 2:
        return _hardest(evidence, IDS)
    return found


def _of_steps(y: Any, x: Tensor) -> bool:
    """Whether targets are a class for every step, as the inputs lie."""
    return isinstance(y, Tensor) and y.dtype == torch.int64 and y.dim() == 2 and y.shape == x.shape[:2]


def _groups(kind: str, y: Tensor, x: Tensor, time: int) -> Tensor:
    """The step of every target, or the id that is read there."""
    if kind == IDS:
        return x.to(y.device)
    return torch.arange(y.size(time), device=y.device).unsqueeze(1 - time).expand_as(y)


def _hardest(evidence: Evidence, kind: str) -> HardPositions | None:
    """The groups of positions that hold most of the loss."""
    y = evidence.case.targets
    group = _groups(kind, y, evidence.x, evidence.axes.axes.time)
    labels, counts = torch.unique(group[y != IGNORED], return_counts=True)
    if not 1 < len(labels) <= _MOST_GROUPS:
        return None
    losses = torch.stack([_loss_in(evidence, group == label) for label in labels]).to(counts.device)
    total = float((losses * counts).sum())
    if not total > 0 or abs(total / float(counts.sum()) - evidence.batch_loss) > _ALIKE * abs(evidence.batch_loss):
        return None
    enough = counts >= (_FEWEST_ALIKE if kind == IDS else 1)
    if not bool(enough.any()):
        return None
    hard = enough & (losses > _HARD * losses[enough].max())
    share = float((losses * counts)[hard].sum()) / total
    few = counts[hard].sum() <= _FEW * counts.sum()
    if not few or share < _MOST_OF_LOSS:
        return None
    return HardPositions(_alone(evidence, kind, labels[hard]), kind, tuple(labels[hard].tolist()), share)


def _loss_in(evidence: Evidence, where: Tensor) -> Tensor:
    """The mean loss of the targets at some positions."""
    with torch.no_grad():
        return mean_loss(evidence.case.loss, evidence.outputs, _only(evidence.case.targets, where)).double()


def _alone(evidence: Evidence, kind: str, labels: Tensor) -> Evidence:
    """What is known where only the targets in some groups count."""
    case, time = evidence.case, evidence.axes.axes.time

    def kept(y: Tensor, x: Tensor) -> Tensor:
        return _only(y, torch.isin(_groups(kind, y, x, time), labels.to(y.device)))

    validation = None
    if case.validation is not None:  # of another form, or of other steps, it says nothing
        inputs, y = case.validation
        x = first_tensor(inputs)
        if isinstance(x, Tensor) and _of_steps(y, x) and y.size(time) == case.targets.size(time):
            validation = inputs, kept(y, x)
    return Evidence(replace(case, targets=kept(case.targets, evidence.x), validation=validation, more=(), history=None))


def _only(y: Tensor, where: Tensor) -> Tensor:
    """Targets of which those elsewhere are ignored."""
    return torch.where(where, y, torch.full_like(y, IGNORED))
