"""Norms of many tensors at once, cheap where they are ordinary and exact where they are not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["norms", "total"]


def norms(tensors: Sequence[Tensor]) -> list[float]:
    """The norm of each tensor, zero only where every number in it is zero.

    One batched call and one reading: on an accelerator it waits for what was asked of it before.

    Returns:
        As many numbers; infinite or NaN only where a number in the tensor is.

    Example:
        >>> norms([torch.tensor([3.0, 4.0]), torch.tensor([1e-30]), torch.tensor([1e30])])
        [5.0, 1.0000000031710769e-30, 1.0000000150474662e+30]
    """
    if not tensors:
        return []
    plain = [_plain(tensor) for tensor in tensors]
    each = _batched(plain)
    if len({(norm.device, norm.dtype) for norm in each}) > 1:
        each = [norm.to("cpu", torch.float64) for norm in each]
    found: list[float] = torch.stack(each).tolist()
    # Squares leave the range of float32 long before the numbers do.
    return [
        norm if math.isfinite(norm) and norm > 0 else _exact(tensor) for norm, tensor in zip(found, plain, strict=True)
    ]


def total(each: Mapping[int, float], chosen: Iterable[int]) -> float | None:
    """The norm of several tensors together; None where none of them has one.

    Example:
        >>> total({0: 3.0, 2: 4.0}, [0, 1, 2])
        5.0
    """
    found = [each[index] for index in chosen if index in each]
    return math.hypot(*found) if found else None


def _batched(tensors: list[Tensor]) -> list[Tensor]:
    """One call for each dtype; half precision is summed in single."""
    found: dict[int, Tensor] = {}
    for dtype in {tensor.dtype for tensor in tensors}:
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        wider = torch.float32 if dtype in (torch.float16, torch.bfloat16) else None
        found |= dict(zip(places, torch._foreach_norm([tensors[p] for p in places], dtype=wider), strict=True))
    return [found[place] for place in range(len(tensors))]


def _plain(tensor: Tensor) -> Tensor:
    """The numbers that are there, as real ones."""
    found = tensor.detach()
    if found.is_sparse:
        found = found.coalesce().values()
    return torch.view_as_real(found.resolve_conj()) if found.is_complex() else found


def _exact(tensor: Tensor) -> float:
    if not tensor.numel():
        return 0.0
    largest = float(tensor.abs().amax())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float((tensor.to(torch.float64) / largest).norm())
