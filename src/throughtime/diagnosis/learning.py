"""Whether a model learns all the same, in spite of what was found in it."""

from __future__ import annotations

from throughtime.diagnosis import clipping
from throughtime.diagnosis.evidence import Evidence

__all__ = ["learns"]

_LEARNS = 0.3
"""A model that has got rid of so large a share of the chance loss, on validation data, learns in spite of it."""
_LEARNS_BATCH = 0.5
"""The same of the batch at hand, where its targets are too many to be learned by heart."""
_NEAR_FLOOR = 0.9
"""Share of the chance loss that a watched loop has got rid of: more reach could win back what is left at most."""


def learns(evidence: Evidence) -> bool:
    """By its validation loss, by a batch of many targets, or by the losses of a watched loop."""
    if evidence.has("progress") and evidence.progress >= _LEARNS:
        return True
    if evidence.has("batch_progress") and evidence.batch_progress >= _LEARNS_BATCH:
        return True
    if evidence.has("loop_progress") and evidence.loop_progress >= _NEAR_FLOOR:
        return True
    history = evidence.case.history
    if history is None or not clipping.most_is_clipped(history):
        return False
    # A loop that clips all but away what the gradient says has not shown what the model learns without.
    return evidence.has("progress_by_halves") and evidence.progress_by_halves >= _LEARNS
