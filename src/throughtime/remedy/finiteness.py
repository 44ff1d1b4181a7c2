"""What is not finite, found in plain PyTorch: `TreatmentPlan.code` prints these functions."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

__all__ = ["all_finite", "finite_rows"]


def all_finite(parameters: Iterable[Tensor]) -> bool:
    """Whether no gradient holds NaN or infinity."""
    return all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None)


def finite_rows(x: Tensor, batch_dim: int) -> Tensor:
    """Which sequences of a batch hold finite numbers alone, as indices along its axis.

    Example:
        >>> import torch
        >>> finite_rows(torch.tensor([[[0.0], [float("nan")]], [[1.0], [2.0]]]), 0).tolist()
        [1]
    """
    return x.isfinite().movedim(batch_dim, 0).flatten(1).all(1).nonzero().squeeze(1)
