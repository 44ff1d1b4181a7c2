"""What cells with a matrix memory for each head have in common: how many heads, and how their decay starts."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from throughtime.cell.gate_starts import forget_gate_
from throughtime.check import at_least
from throughtime.errors import RecipeError

__all__ = ["HEAD_STARTS", "decay_bias_", "settled_num_heads"]

HEAD_STARTS: Final = ("spread", "chrono")
"""The starts that `decay_bias_` knows, the default first."""

WIDEST_HEAD: Final = 64
NARROWEST_HEAD: Final = 16
"""A memory has the square of a head's features: wider heads cost more than they hold, narrower ones hold little."""

SPREAD: Final = (3.0, 6.0)
"""From sigmoid(3) = 0.953, a memory of about 20 steps, to sigmoid(6) = 0.9975, one of about 400."""


def settled_num_heads(hidden_size: int, num_heads: int | None) -> int:
    """How many heads: as given, or the fewest that are at most 64 and at least 16 features wide, or 1 if none are.

    Raises:
        RecipeError: if `num_heads` is below 1 or does not divide `hidden_size`.

    Example:
        >>> [settled_num_heads(size, None) for size in (8, 64, 130, 509, 512)]
        [1, 1, 5, 1, 8]
    """
    if num_heads is None:
        fitting = (n for n in range(1, hidden_size // NARROWEST_HEAD + 1) if hidden_size % n == 0)
        return next((n for n in fitting if hidden_size // n <= WIDEST_HEAD), 1)
    at_least("num_heads", num_heads, 1)
    if hidden_size % num_heads:
        raise RecipeError(f"num_heads must divide hidden_size {hidden_size}, and {num_heads} does not")
    return num_heads


def decay_bias_(init: str, max_lag: int | None, bias: Tensor) -> None:
    """Set the bias (heads,) of a logistic forget gate that all features of a head share; called without gradients.

        "spread"    evenly spaced from 3 to 6; one head alone lies in the middle
        "chrono"    log u,  u ~ U[1, T_max - 1]  (`throughtime.cell.gate_starts`)

    A start at 1, right for an LSTM with as many forget gates as units, would let the whole of a matrix memory fade
    within four steps.
    """
    if init == "chrono":
        forget_gate_(init, max_lag, bias)
        return
    low, high = SPREAD
    heads = bias.numel()
    bias.copy_(torch.linspace(low, high, heads) if heads > 1 else torch.tensor([(low + high) / 2]))
