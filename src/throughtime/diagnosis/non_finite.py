"""non-finite: a number of the training becomes NaN or infinite; which one began it, and when."""

from __future__ import annotations

from typing import Any

from torch import nn

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.optimizers import scale_free
from throughtime.measurement import WatchRecord

__all__ = ["by_formula", "find"]

USUAL_CLIP = 0.25
"""The smallest one in common use. A rehearsal does not see that a loop clips: what clipping heals is no error."""

GROWN = 10.0
"""Times the first loss: a loss that overflows from there has diverged."""

_BEGAN = {
    "input": "the data",
    "activation": "the forward pass",
    "target": "the targets",
    "loss": "the loss, from outputs that are finite",
    "gradient": "the gradient, under a loss that is finite",
    "weight": "the update",
}


def by_formula(history: WatchRecord) -> bool:
    """Whether the formula of the loss, or its slope, gave way at a loss that had not grown: no step was too long."""
    first = history.non_finite
    if first is None or first["where"] not in ("loss", "gradient"):
        return False
    before = _loss_before(history, first)
    return before is None or before <= GROWN * abs(history.losses[0] or 0.0)


def find(evidence: Evidence) -> Finding | None:
    """Of the user's own loop where it was watched, else of the rehearsal."""
    watched = evidence.case.history
    if watched is not None and watched.non_finite is not None:
        return _finding(watched, watched.non_finite, "error", "training")
    if not evidence.case.optimizers:
        if watched is not None:
            return None
        if (poisoned := _of_weights(evidence.case.model)) is not None:
            return poisoned
        raise Missing("an optimizer, or a watch of the training loop")
    rehearsed = evidence.rehearsal.history
    if rehearsed.non_finite is None:
        return None
    if watched is not None:
        # The loop itself, with whatever it does against it, has stayed finite so far.
        return _finding(rehearsed, rehearsed.non_finite, "warning", "a rehearsal on one batch")
    healed = not by_formula(rehearsed) and not scale_free(evidence.case.optimizers)
    if healed:
        clipped = evidence.rates.losses(1.0, clip=USUAL_CLIP, steps=len(evidence.rehearsal.losses) + 1)
        healed = all(loss == loss for loss in clipped)
    note = f"; it stays finite with gradients clipped to {USUAL_CLIP}" if healed else ""
    return _finding(
        rehearsed, rehearsed.non_finite, "warning" if healed else "error", "a rehearsal on one batch, unclipped", note
    )


def _of_weights(model: nn.Module) -> Finding | None:
    """Of a model as it is: which of its weights are spoiled, though not since when."""
    for name, weight in model.named_parameters():
        spoiled = weight.numel() - int(weight.isfinite().sum())
        if spoiled:
            return Finding(
                "non-finite",
                "error",
                1.0,
                f"{spoiled} of the {weight.numel()} numbers of {name} are NaN or infinite; since when, a watch of the "
                "training loop would tell",
                {"name": name, "num_not_finite": spoiled, "num_numbers": weight.numel()},
            )
    return None


def _finding(history: WatchRecord, first: dict[str, Any], severity: str, whose: str, note: str = "") -> Finding:
    name = f" ({first['name']})" if first["name"] else ""
    where = _BEGAN[first["where"]]
    evidence = {
        **first,
        "began": where,
        "num_steps": history.num_steps,
        "loss_before": _loss_before(history, first),
        "by_formula": by_formula(history),
    }
    before = evidence["loss_before"]
    told = f" from {before:.4g}" if before is not None else ""
    return Finding(
        "non-finite",
        severity,
        1.0,
        f"In {whose} numbers stop being finite at step {first['step']}{told}: it begins in {where}{name}; the last "
        f"step known to be finite is {first['last_finite_step']}{note}",
        evidence,
    )


def _loss_before(history: WatchRecord, first: dict[str, Any]) -> float | None:
    """The last known loss before it."""
    known = [loss for loss in history.losses[: max(0, first["step"] - 1)] if loss is not None]
    return known[-1] if history.losses_every == 1 and known else None
