"""Time turned round, so that a backward direction is a forward scan."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["reverse_reset", "reverse_time"]


def reverse_time(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn each sequence round within its length; what lies beyond stays. Twice gives the original.

    Args:
        x: (T, B, ...).
        lengths: (B,), or None for T.

    Returns:
        (T, B, ...).

    Example:
        >>> reverse_time(torch.tensor([[1, 1], [2, 2], [3, 0]]), torch.tensor([3, 2])).tolist()
        [[3, 2], [2, 1], [1, 0]]
    """
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.size(0), device=x.device).unsqueeze(1)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x[source, torch.arange(x.size(1), device=x.device)]


def reverse_reset(reset: Tensor, lengths: Tensor | None) -> Tensor:
    """The reset that cuts the reversed sequences at the same boundaries.

    `reset[t]` cuts between t-1 and t; seen from the other end that is before t-1. A reset at the first step cuts
    nothing here, and neither does one beyond the length.

    Args:
        reset: (T, B) bool.
        lengths: (B,), or None for T.

    Returns:
        (T, B) bool.

    Example:
        >>> reverse_reset(torch.tensor([[True], [False], [True], [False]]), None).flatten().tolist()
        [False, False, True, False]
    """
    if lengths is not None:
        reset = reset & (torch.arange(reset.size(0), device=reset.device).unsqueeze(1) < lengths)
    after = torch.cat([reset[1:], torch.zeros_like(reset[:1])])  # (T, B): whether there is a cut after step t
    return reverse_time(after, lengths)
