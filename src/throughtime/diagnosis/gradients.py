"""gradient-not-reset: the gradients of earlier steps are still there when the next backward pass begins."""

from __future__ import annotations

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding

__all__ = ["find"]

FEWEST_STEPS = 3
"""Sampled steps that could tell; a reset that is left out now and then by design is not taken for one forgotten."""

ERROR_SHARE = 0.9
"""Forgotten means at every step; some steps are left out where the loop skips an update by design."""

WARNING_SHARE = 0.3
"""Below this it is a single step, such as the first after an evaluation."""


def find(evidence: Evidence) -> Finding | None:
    """Accumulation over several backward passes of one step is healthy, and not counted by the watch."""
    history = evidence.case.history
    if history is None:
        raise Missing("a watch of the training loop: only the loop itself can forget to reset its gradients")
    if history.accumulating is None or len(history.samples) < FEWEST_STEPS:
        raise Missing(f"a watch of at least {FEWEST_STEPS} steps with backward passes")
    share = history.accumulating
    if share < WARNING_SHARE:
        return None
    norms = [sample["gradient_norm"] for sample in history.samples if sample["gradient_norm"]]
    growth = norms[-1] / norms[0] if norms and norms[0] and norms[-1] else None
    grown = f", whose norm has become {growth:.3g} times what it was," if growth is not None else ""
    return Finding(
        "gradient-not-reset",
        "error" if share >= ERROR_SHARE else "warning",
        min(1.0, share),
        f"At {share:.0%} of {len(history.samples)} sampled steps the gradients of earlier steps{grown} were still "
        "there when the next backward pass began, so that every update adds up all gradients since the start: call "
        "optimizer.zero_grad() before each backward pass that begins a step",
        {"share": share, "num_samples": len(history.samples), "gradient_growth": growth},
    )
