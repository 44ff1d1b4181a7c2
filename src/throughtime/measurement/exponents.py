"""Lyapunov exponents and singular values of long products of Jacobians, in logs throughout, so that nothing underflows.

Both come from the QR method: an orthonormal frame Q is carried along a trajectory,

    J_t Q_(t-1) = Q_t R_t,    exponent_i = mean over t of log R_t[i, i]

and the triangular factors multiply up to the long product seen from the first frame, J_T ... J_1 Q_0 = Q_T R_T ... R_1.

*Reference*: Engelken, Wolf & Abbott 2023, *Lyapunov spectra of chaotic recurrent neural networks*, arXiv:2006.02427,
and Vogt, Puelma Touzel, Shlizerman & Lajoie 2022, *On Lyapunov exponents for RNNs: understanding information
propagation using dynamical systems tools*, arXiv:2006.14123, for the exponents; Stewart 1997, *A new algorithm for the
SVD of a long product of matrices and the stability of products*, Electronic Transactions on Numerical Analysis 5, for
the singular values.

Departures: a QR decomposition at every step (the papers allow several steps between two); the mean is over the inputs
that the user's model meets, not over an ergodic average; the error that is stated is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "GradedProduct", "Sweep", "estimate", "log_singular_values", "long_product", "sweep"]

_COLLAPSED = 64 * torch.finfo(torch.float64).eps
"""A column that is shorter than this part of itself after the others were taken out of it is rounding error."""

_SHORTEST = 1e-140
"""A column that one step makes so much shorter than the longest one is lost too: twice in a row, and what is divided by
it leaves the range of numbers. Slopes of units that are saturated by weights in the hundreds are like that."""

_DEAD = -1e12
"""Log scale of a direction that collapsed; far below that of any that did not."""

_MOST_REDUCTIONS = 100
_MOST_SWEEPS = 20
_SETTLED_NATS = 1e-6
_BLOCKS_A_SEQUENCE = 4

# Two-sided 95 % points of Student's t by degrees of freedom; beyond the last one, the next lower entry is safe.
_STUDENT_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 15: 2.131, 30: 2.042, 60: 2.0}


@dataclass(frozen=True)
class GradedProduct:
    """A product of upper triangular matrices as diag(exp(log_scale)) @ unit, so that its range has no bounds.

    Attributes:
        log_scale: (B, k).
        unit: (B, k, k), upper triangular with ones on the diagonal.
    """

    log_scale: Tensor
    unit: Tensor


@dataclass(frozen=True)
class Sweep:
    """What carrying a frame along a trajectory gave.

    Attributes:
        logs: (T, B, k) log R_t[i, i], in nats; one that collapsed counts 0.
        collapsed: (T, B, k) whether the step left nothing of that direction but rounding error.
        frame: (B, D, k) after the last step.
        graded: R_T ... R_1.
    """

    logs: Tensor
    collapsed: Tensor
    frame: Tensor
    graded: GradedProduct


@dataclass(frozen=True)
class Estimate:
    """Exponents with the half-width of their 95 % interval, in nats per step, the largest first.

    Attributes:
        exponents: (k,); None where a direction collapsed: minus infinity, as far as float64 can tell.
        errors: (k,); None where the exponent is.
    """

    exponents: tuple[float | None, ...]
    errors: tuple[float | None, ...]


def sweep(products: Iterable[Callable[[Tensor], Tensor]], frame: Tensor) -> Sweep:
    """Carry a frame along.

    Args:
        products: one a step; each maps (B, D, k) to J_t times it.
        frame: (B, D, k), orthonormal columns.

    Returns:
        Logs of the diagonals of R, the last frame and the product of all R.

    Example:
        >>> a = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
        >>> found = sweep([lambda columns: a @ columns] * 2000, torch.eye(2, dtype=torch.float64).unsqueeze(0))
        >>> (found.graded.log_scale / math.log(2)).round().tolist()
        [[2000.0, -2000.0]]
    """
    logs, collapsed = [], []
    log_scale = frame.new_zeros(frame.size(0), frame.size(2))
    unit = torch.eye(frame.size(2), dtype=frame.dtype).expand(frame.size(0), -1, -1)
    for product in products:
        moved = product(frame)
        frame, triangle = torch.linalg.qr(moved)
        diagonal = triangle.diagonal(dim1=1, dim2=2)
        length = moved.norm(dim=1)
        lost = diagonal.abs() <= torch.maximum(_COLLAPSED * length, _SHORTEST * length.amax(1, keepdim=True))
        growth = torch.where(lost, torch.ones_like(diagonal), diagonal)
        # Householder's method leaves any sign on the diagonal; a positive one keeps the graded product free of them.
        frame = frame * torch.where(diagonal < 0, -1.0, 1.0).to(frame.dtype).unsqueeze(1)
        rows = triangle / growth.unsqueeze(2) * _ratios(log_scale)
        dead = lost | (log_scale < _DEAD / 2)
        unit = unit + rows.triu(1).masked_fill(dead.unsqueeze(2), 0) @ unit
        step_logs = growth.abs().log()
        log_scale = (log_scale + step_logs).masked_fill(lost, _DEAD)
        if bool(lost.any()):
            unit = torch.where(lost.unsqueeze(2), torch.eye(unit.size(1), dtype=unit.dtype), unit)
            frame, log_scale, unit, step_logs, lost = _lost_last(frame, log_scale, unit, step_logs, lost)
        logs.append(step_logs)
        collapsed.append(lost)
    return Sweep(torch.stack(logs), torch.stack(collapsed), frame, GradedProduct(log_scale, unit))


def log_singular_values(graded: GradedProduct) -> Tensor:
    """Logs of the singular values of a graded product, each to full relative accuracy however far apart they lie.

    With S = diag(exp(log_scale)) and U = unit, the QR decomposition U^T = Q R gives (S U)^T = Q (R S), another
    triangular product of the same singular values, whose entries above the diagonal are smaller by the ratio of the
    two scales: Rutishauser's iteration. Scales that are nearly equal keep theirs, and are left to a common SVD.

    Returns:
        (B, k), the largest first; -inf for those of directions that collapsed.

    Example:
        >>> unit = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]], dtype=torch.float64)
        >>> log_singular_values(GradedProduct(torch.tensor([[0.0, -3000.0]], dtype=torch.float64), unit)).round()
        tensor([[    0., -3000.]], dtype=torch.float64)
    """
    log_scale, unit = graded.log_scale, graded.unit
    log_scale = log_scale.masked_fill(log_scale < _DEAD / 2, _DEAD)
    for _ in range(_MOST_REDUCTIONS):
        if unit.triu(1).abs().amax() < torch.finfo(unit.dtype).eps:
            break
        triangle = torch.linalg.qr(unit.transpose(1, 2)).R
        diagonal = triangle.diagonal(dim1=1, dim2=2)
        lost = diagonal.abs() <= _COLLAPSED * triangle.norm(dim=1)
        growth = torch.where(lost, torch.ones_like(diagonal), diagonal)
        above = (triangle / growth.unsqueeze(2) * _ratios(log_scale)).triu(1)
        unit = torch.eye(unit.size(1), dtype=unit.dtype) + above.masked_fill(lost.unsqueeze(2), 0)
        log_scale = (log_scale + growth.abs().log()).masked_fill(lost, _DEAD)
    rows = [_by_clusters(scale, u) for scale, u in zip(log_scale, unit, strict=True)]
    values = torch.stack(rows).sort(dim=1, descending=True).values
    return values.masked_fill(values < _DEAD / 2, -math.inf)


def long_product(
    products: Callable[[], Iterable[Callable[[Tensor], Tensor]]],
    transposed: Callable[[], Iterable[Callable[[Tensor], Tensor]]],
    first: Sweep,
) -> tuple[Tensor, float]:
    """Logs of the k leading singular values of P = J_T ... J_1, by orthogonal iteration on P^T P.

    A full frame has them after its first sweep. Otherwise the frame goes back along the transposed steps and forth
    again until the values stand still; each frame gives a lower bound on each value.

    Args:
        products: gives J_1 to J_T anew, as functions.
        transposed: gives J_T^T to J_1^T anew.
        first: the sweep along `products` from a random frame.

    Returns:
        (B, k) in nats, the largest first, a collapsed one -inf; and by how much the last sweep changed the worst.
    """
    last, values, change = first, log_singular_values(first.graded), 0.0
    full = first.frame.size(1) == first.frame.size(2)
    for number in range(0 if full else _MOST_SWEEPS):
        last = sweep(products() if number % 2 else transposed(), last.frame)
        before, values = values, log_singular_values(last.graded)
        change = (values - before).nan_to_num(0, 0, 0).abs().max().item()  # -inf stays -inf
        if change < _SETTLED_NATS:
            break
    return values, change


def estimate(logs: Tensor, collapsed: Tensor, spans: Sequence[tuple[int, int]]) -> Estimate:
    """Means over time and sequences, and how far they can be trusted.

    The error adds, in quadrature, the larger of two 95 % half-widths (of the means of quarters of each sequence, and of
    the means of sequences, whichever vary more) and half the difference between the second half of each sequence
    and the first, which shows an estimate that still drifts.

    Args:
        logs: (T, B, k) nats.
        collapsed: (T, B, k).
        spans: for each sequence the first step that counts and the one after the last; at least two steps.

    Returns:
        The k exponents, sorted.
    """
    kept = [logs[start:end, row] for row, (start, end) in enumerate(spans)]
    total = sum(len(part) for part in kept)
    weights = torch.tensor([len(part) / total for part in kept], dtype=logs.dtype)
    means = torch.stack([part.mean(0) for part in kept])
    mean = weights @ means
    blocks = torch.cat([_block_means(part, _BLOCKS_A_SEQUENCE) for part in kept])
    halves = torch.stack([_block_means(part, 2) for part in kept])
    drift = weights @ (halves[:, 1] - halves[:, 0]) / 2
    scatter = torch.maximum(_half_width(blocks), _half_width(means))
    errors = (scatter.square() + drift.square()).sqrt()
    lost = torch.stack([collapsed[start:end, row].any(0) for row, (start, end) in enumerate(spans)]).any(0)
    order = mean.masked_fill(lost, -math.inf).argsort(descending=True)
    return Estimate(
        tuple(None if lost[i] else mean[i].item() for i in order),
        tuple(None if lost[i] else errors[i].item() for i in order),
    )


def _ratios(log_scale: Tensor) -> Tensor:
    """exp(log_scale[j] - log_scale[i]) at row i, column j of (B, k, k); no more than what cannot overflow."""
    return torch.exp((log_scale.unsqueeze(1) - log_scale.unsqueeze(2)).clamp(max=300))


def _lost_last(
    frame: Tensor, log_scale: Tensor, unit: Tensor, step_logs: Tensor, lost: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Put lost directions behind the others, which keeps a graded product graded and its singular values the same."""
    order = lost.to(torch.int8).argsort(dim=1, stable=True)
    as_columns, as_rows = order.unsqueeze(1), order.unsqueeze(2)
    unit = unit.take_along_dim(as_rows, dim=1).take_along_dim(as_columns, dim=2)
    each = [part.take_along_dim(order, dim=1) for part in (log_scale, step_logs, lost)]
    return frame.take_along_dim(as_columns, dim=2), each[0], unit, each[1], each[2]


def _block_means(values: Tensor, num_blocks: int) -> Tensor:
    """Means of equal stretches of time, (num_blocks or T, k)."""
    return torch.stack([block.mean(0) for block in values.tensor_split(min(num_blocks, len(values)))])


def _half_width(samples: Tensor) -> Tensor:
    """Of the 95 % interval of the mean of independent samples (n, k); 0 for one sample, which tells nothing."""
    degrees = len(samples) - 1
    if degrees == 0:
        return torch.zeros_like(samples[0])
    quantile = _STUDENT_95[max(known for known in _STUDENT_95 if known <= degrees)]
    return quantile * samples.std(0) / math.sqrt(len(samples))


def _by_clusters(log_scale: Tensor, unit: Tensor) -> Tensor:
    """Log singular values (k,), by an SVD of each diagonal block that nothing couples to the next."""
    coupling = unit.triu(1).abs()
    eps = torch.finfo(unit.dtype).eps
    cuts = [i for i in range(1, len(log_scale)) if coupling[:i, i:].amax() < eps]
    values = []
    for start, end in zip([0, *cuts], [*cuts, len(log_scale)], strict=True):
        scale, block = log_scale[start:end], unit[start:end, start:end]
        top = scale.max()
        values.append(top + torch.linalg.svdvals(torch.exp(scale - top).unsqueeze(1) * block).log())
    return torch.cat(values)
