"""Dropout with one mask for all time steps of a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LockedDropout"]


class LockedDropout(nn.Module):
    """Drop the same features at every step: `y_t = m * x_t / (1 - p)`, `m ~ Bernoulli(1 - p)` of shape (1, B, F).

    *Reference*: Gal & Ghahramani 2016, arXiv:1512.05287 (variational dropout for recurrent networks).

    Args:
        probability: the share of features that is dropped in training.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, F) to (T, B, F)."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        mask = torch.empty(1, *x.shape[1:], dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
        return x * mask

    def extra_repr(self) -> str:
        """The probability, as torch's own dropout shows it."""
        return f"p={self.probability}"
