"""What a series tells of itself: whether its next value follows from those before."""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.diagnosis.copies import Copy, as_ids

__all__ = ["is_forecast", "looks_backwards"]

_MORE_OF_ITS_OWN = 4
"""Lags of an autoregression."""
_OF_ITSELF = 0.5
_EQUAL = 1 - 1e-6
_PREDICTABLE = 0.2
"""Share of variance that the step before explains, from which a series is a text or a signal and not a memory task."""


def looks_backwards(x: Tensor, copy: Copy, offset: int) -> str | None:
    """Of a target that is an earlier input: a memory task where inputs are independent, else a mistake."""
    if offset < -1:
        return None
    ids = as_ids(x)
    if ids.is_floating_point():
        series = ids if ids.dim() == 2 else ids[..., copy.feature or 0]
        now, before = series[1:].flatten().double(), series[:-1].flatten().double()
        correlation = torch.corrcoef(torch.stack([now, before]))[0, 1].square()
        return "warning" if float(correlation) > _PREDICTABLE else None
    return "error" if _foretold(ids) > _PREDICTABLE else None


def _foretold(ids: Tensor) -> float:
    """By how much better than by the commonest id the next one is told from the one before, on held-out sequences."""
    kinds, codes = torch.unique(ids, return_inverse=True)
    half = ids.size(1) // 2
    if not half or kinds.numel() > ids.numel() // 4:
        return 0.0
    counts = torch.zeros(kinds.numel(), kinds.numel())
    counts.index_put_((codes[:-1, :half].flatten(), codes[1:, :half].flatten()), torch.tensor(1.0), accumulate=True)
    before, now = codes[:-1, half:].flatten(), codes[1:, half:].flatten()
    by_pair = float((counts.argmax(1)[before] == now).double().mean())
    by_itself = float((counts.sum(0).argmax() == now).double().mean())
    return (by_pair - by_itself) / max(1 - by_itself, 1e-12)


def is_forecast(x: Tensor, copy: Copy) -> bool:
    """Whether the feature that is the target is a series that one would foretell, and no answer put among the inputs.

    It is one if its own past tells half of it, or more of it than the other features do; and it is none if it is the
    next step of another feature, which somebody has added.
    """
    if not x.is_floating_point() or x.dim() < 3 or copy.feature is None or x.size(0) <= 2 * _MORE_OF_ITS_OWN:
        return True
    flat = x.flatten(2).double()
    lags, num_steps = _MORE_OF_ITS_OWN, x.size(0)
    own, others = copy.feature, [f for f in range(flat.size(-1)) if f != copy.feature]
    if any(_same_course(flat[:-1, :, own], flat[1:, :, other]) for other in others):
        return False
    target = flat[lags:, :, own].flatten()
    past = torch.stack([flat[lags - k : num_steps - k, :, own].flatten() for k in range(1, lags + 1)], dim=1)
    now = [flat[lags - k : num_steps - k][..., others].flatten(0, 1) for k in range(lags + 1)]
    by_itself = _explained(past, target)
    return by_itself >= _OF_ITSELF or by_itself >= _explained(torch.cat(now, dim=1), target)


def _same_course(one: Tensor, other: Tensor) -> bool:
    """Whether two series are equal but for scale and offset."""
    correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    return bool(correlation.abs() > _EQUAL)


def _explained(x: Tensor, y: Tensor) -> float:
    """Share of variance of the second half of y (N,) that ridge regression on x (N, M), fitted to the first, tells."""
    half = y.numel() // 2
    centre, mean = x[:half].mean(0), y[:half].mean()
    inside = x[:half] - centre
    gram = inside.t() @ inside
    gram.diagonal().add_(1e-3 * gram.diagonal().mean() + 1e-12)
    weights = torch.linalg.solve(gram, inside.t() @ (y[:half] - mean))
    rest = y[half:] - mean - (x[half:] - centre) @ weights
    return 1 - float(rest.square().mean() / y[half:].var().clamp(min=1e-12))
