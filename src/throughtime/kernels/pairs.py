"""Complex numbers as real tensors: a last axis of S / 2 real parts and then S / 2 imaginary parts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["conjugate", "product"]


def product(x: Tensor, y: Tensor, complex_pairs: bool) -> Tensor:
    """X * y, (..., S), element by element; of complex numbers if `complex_pairs`."""
    if not complex_pairs:
        return x * y
    (a, b), (c, d) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    return torch.cat([a * c - b * d, a * d + b * c], dim=-1)


def conjugate(x: Tensor, complex_pairs: bool) -> Tensor:
    """The conjugate of x (..., S); x itself unless `complex_pairs`."""
    if not complex_pairs:
        return x
    real, imaginary = x.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)
