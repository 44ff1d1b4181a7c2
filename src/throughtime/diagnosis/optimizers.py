"""What is known of an optimizer without running it."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer

__all__ = ["largest_eps", "learning_rate", "planned_rate", "scale_free"]

_STATES = ("exp_avg_sq", "square_avg", "sum", "acc_delta", "exp_inf", "scale", "row_var", "prev")
"""Under these names optimizers keep what they divide the gradient by."""

_NAMES = ("Adam", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "Rprop", "Lion", "LAMB", "Lamb", "Muon", "Sophia")


def scale_free(optimizers: Sequence[Optimizer]) -> bool:
    """Whether every one divides the gradient by its own size, so that its scale, and clipping, hardly matter."""
    return bool(optimizers) and all(_divides(optimizer) for optimizer in optimizers)


def learning_rate(optimizers: Sequence[Optimizer]) -> float:
    """Of the first group of the first one, as it is now."""
    return float(optimizers[0].param_groups[0]["lr"])


def planned_rate(optimizers: Sequence[Optimizer]) -> float:
    """The highest that its schedule is known to reach, relative to that of now; 1 without a schedule."""
    factor = 1.0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            now = float(group["lr"])
            peak = max(float(group.get(name, now)) for name in ("initial_lr", "max_lr", "lr"))
            factor = max(factor, peak / now if now > 0 else 1.0)
    return factor


def largest_eps(optimizers: Sequence[Optimizer]) -> float:
    """What is added to the size that the gradient is divided by: gradients below it are not scaled up."""
    return max((float(group.get("eps", 0.0) or 0.0) for o in optimizers for group in o.param_groups), default=0.0)


def _divides(optimizer: Optimizer) -> bool:
    if any(name in type(optimizer).__name__ for name in _NAMES):
        return True
    return any(key in _STATES for state in optimizer.state.values() if isinstance(state, dict) for key in state)
