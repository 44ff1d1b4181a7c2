"""The first update of a watched loop that undid what the weights were, and whether its gradient was to blame."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.diagnosis.evidence import Evidence

__all__ = ["CLIPPED", "FAR", "LONG_UPDATE", "ORDINARY", "SENSITIVE", "FarUpdate", "far_update"]

FAR = 0.5
"""An update of half the weights' norm or more undoes what they were; healthy ones are below 0.05."""
LONG_UPDATE = 0.2
"""Update / weights. At rates that train it is 0.1 at most, and seldom as much."""
SENSITIVE = 1e3
"""|gradient| |weights| / loss; healthy networks lie between 1 and 100."""
ORDINARY = 100.0
"""Of the same: up to here the gradient had not exploded."""
CLIPPED = 0.9
"""A step counts as clipped where less than this share of its gradient's norm was left."""


@dataclass(frozen=True)
class FarUpdate:
    """An update that is long against the weights, and how its gradient stood to the loss.

    Attributes:
        step: at which it was made.
        norm: of the gradient, before clipping.
        kept: what clipping left of that.
        ratio: update / weights.
        sensitivity: |gradient| |weights| / loss, which has no unit: by how many times its own size the loss would
            change if the weights changed by theirs.
    """

    step: int
    norm: float
    kept: float
    ratio: float
    sensitivity: float


def far_update(evidence: Evidence, least: float = FAR) -> FarUpdate | None:
    """The first update of `least` of the weights and more in a watched loop; what comes after is its consequence."""
    if evidence.case.history is None:
        return None
    for sample in evidence.case.history.samples:
        norm, clipped, weights, ratio = (
            sample.get(name) for name in ("gradient_norm", "clipped_norm", "weight_norm", "update_ratio")
        )
        if norm is None or clipped is None or weights is None or ratio is None:
            return None
        if ratio < least:
            continue
        loss = sample.get("loss") or (evidence.chance_loss if evidence.has("chance_loss") else None) or 1.0
        kept = clipped / norm if norm else 1.0
        return FarUpdate(int(sample["step"] or 0), norm, kept, ratio, norm * weights / abs(loss))
    return None
