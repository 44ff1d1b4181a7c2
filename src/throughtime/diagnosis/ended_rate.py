"""The learning rate of a loop that ended in NaN: no other one can be tried from there, so its own steps must tell."""

from __future__ import annotations

import statistics

from throughtime.diagnosis.clipping import SPIKE
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.far_update import LONG_UPDATE, ORDINARY, FarUpdate, far_update
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.non_finite import by_formula
from throughtime.measurement import WatchRecord

__all__ = ["find_ended", "has_ended"]


def has_ended(evidence: Evidence) -> bool:
    """Whether a watched loop has made its weights NaN or infinite."""
    history = evidence.case.history
    if history is None or history.non_finite is None:
        return False
    return not all(bool(weight.isfinite().all()) for weight in evidence.case.model.parameters())


def find_ended(evidence: Evidence) -> Finding | None:
    """An update overwrote the weights before anything was NaN, though its gradient was an ordinary one."""
    history = evidence.case.history
    assert history is not None
    assert history.non_finite is not None
    far = far_update(evidence, LONG_UPDATE)
    if far is None or far.sensitivity * far.kept > ORDINARY or _stands_out(history, far):
        return None
    sample = next(each for each in history.samples if each["step"] == far.step)
    rate, step, loss = sample["learning_rate"], history.non_finite["step"], sample["loss"]
    told = f" of {rate:.2g}" if rate is not None else ""
    was = f", where the loss was {loss:.4g}" if loss is not None else ""
    formula = by_formula(history)
    note = ", though in a loss whose formula gave way" if formula else ""
    return Finding(
        "learning-rate-too-high",
        "warning" if formula else "error",
        0.9,
        f"At the learning rate{told} the update of step {far.step} was {far.ratio:.2g} times as large as the weights, "
        f"by a gradient that was an ordinary one (|gradient| |weights| / loss {far.sensitivity:.3g}){was}; by step "
        f"{step} numbers were not finite any more{note}",
        {
            "learning_rate": rate,
            "update_ratio": far.ratio,
            "sensitivity": far.sensitivity,
            "step": far.step,
            "loss_first": history.losses[0] if history.losses else None,
            "watched_steps": history.num_steps,
        },
    )


def _stands_out(history: WatchRecord, far: FarUpdate) -> bool:
    """Whether its gradient was far above those before: a loss that spikes too makes such a spike look ordinary."""
    norms = [each["gradient_norm"] for each in history.samples if (each["step"] or 0) < far.step]
    before = [norm for norm in norms if norm is not None]
    return bool(before) and far.norm > SPIKE * statistics.median(before)
