"""Which lags of the inputs a target depends on: ridge regression on fixed features, against shifted targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Selected", "commonest", "features", "held_out_errors", "selected_lags"]

MOST_LAGS_SELECTED = 32
_SHIFTS = 99
_SHIFTS_AT_ONCE = 16
_LEVEL = 0.01
_FAR_DEVIATIONS = 4
_CLEAR = 4
_RIDGE = 1e-3
_FOLDS = 5
_RANDOM_FEATURES = 8
_MOST_CLASSES = 32


@dataclass(frozen=True)
class Selected:
    """Lags that hold something about the target, given one another.

    Attributes:
        lags: in the order in which they were found, the strongest first.
        detectable: the share of the target's variance that a single lag would have had to explain to be found.
        left_over: whether the other lags together hold more than chance, though none of them alone.
    """

    lags: tuple[int, ...]
    detectable: float
    left_over: bool


def features(values: Tensor, generator: torch.Generator) -> Tensor:
    """Functions of single inputs: (..., ) ids -> their one-hot code; (..., I) numbers -> themselves and random cosines.

    Of ids the commonest have a code of their own and the others share one.

    Returns:
        (..., M), float64.
    """
    if not values.is_floating_point():
        return (values.unsqueeze(-1) == commonest(values, _MOST_CLASSES - 1)).double()
    x = values.double()
    flat = x.flatten(0, -2)
    x = (x - flat.mean(0)) / flat.std(0).clamp(min=1e-12)
    if x.size(-1) > _MOST_CLASSES:
        x = x @ torch.randn(x.size(-1), _MOST_CLASSES, generator=generator, dtype=torch.float64) / x.size(-1) ** 0.5
    weights = torch.randn(x.size(-1), _RANDOM_FEATURES, generator=generator, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(_RANDOM_FEATURES, generator=generator, dtype=torch.float64)
    return torch.cat([x, torch.cos(x @ weights + phases)], dim=-1)


def selected_lags(by_lag: Tensor, target: Tensor, generator: torch.Generator) -> Selected:
    """Lags one after another, each the one that explains most of what the ones before left, while it beats chance.

    Chance is what the same regression finds when the target is shifted against the inputs, by the largest of all lags:
    the level holds for all of them together. What is chosen is taken out of target and features alike, so an older
    input counts only for what it says beyond those.

    Args:
        by_lag: (K, N, M) features of the input at each lag, rows in the order of sequences and time.
        target: (N, C).
        generator: of the shifts.

    Returns:
        The lags and what could have been seen.
    """
    num_rows = target.size(0)
    rest = _centred(target)
    left = _bases(by_lag - by_lag.mean(1, keepdim=True))
    shifts = torch.randint(1, num_rows, (_SHIFTS,), generator=generator)
    found: list[int] = []
    total = rest.square().sum()
    expected = limit = torch.tensor(torch.inf)
    while True:
        explained = _explained(left, rest)
        if not bool((explained - expected).max() > _CLEAR * limit):  # what is far beyond chance needs no new comparison
            null = _explained_by_chance(left, rest, shifts)
            expected, null_excess = null.mean(0), null - null.mean(0)
            limit = null_excess.amax(1).quantile(1 - _LEVEL)
        excess = explained - expected
        best = int(excess.argmax())
        detectable = float(limit * rest.square().sum() / total)
        if excess[best] <= limit or len(found) == MOST_LAGS_SELECTED:
            spread = bool(excess.sum() > _FAR_DEVIATIONS * null_excess.sum(1).std())
            return Selected(tuple(found), detectable, spread)
        found.append(best)
        basis = left[best]
        rest = rest - basis @ (basis.t() @ rest)
        if rest.square().sum() < 1e-9 * total:
            return Selected(tuple(found), detectable, False)
        left = _bases(left - basis @ (basis.t() @ left))


def held_out_errors(by_lag: Tensor, lags: tuple[int, ...], target: Tensor) -> Tensor:
    """(len(lags) + 1, N): each row's squared error where the target is foretold from none, the first, the first two ...

    By ridge regression, each fifth of the rows from the other four.
    """
    num_rows = target.size(0)
    errors = torch.empty(len(lags) + 1, num_rows, dtype=torch.float64)
    for fold in torch.arange(num_rows).chunk(_FOLDS):
        keep = torch.ones(num_rows, dtype=torch.bool)
        keep[fold] = False
        mean = target[keep].mean(0)
        errors[0, fold] = (target[fold] - mean).square().sum(1)
        for count in range(1, len(lags) + 1):
            x = torch.cat([by_lag[lag] for lag in lags[:count]], dim=1)
            centre = x[keep].mean(0)
            inside, outside = x[keep] - centre, x[fold] - centre
            gram = inside.t() @ inside
            gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + 1e-12)
            weights = torch.linalg.solve(gram, inside.t() @ (target[keep] - mean))
            errors[count, fold] = (target[fold] - mean - outside @ weights).square().sum(1)
    return errors


def commonest(ids: Tensor, most: int) -> Tensor:
    """The ids that occur most often, at most so many."""
    kinds, counts = torch.unique(ids, return_counts=True)
    common: Tensor = kinds[counts.argsort(descending=True)[:most]]
    return common


def _explained(bases: Tensor, rest: Tensor) -> Tensor:
    """(K,) share of the variance of `rest` (N, C) that each lag's features explain."""
    explained: Tensor = (bases.transpose(1, 2) @ rest).square().sum((1, 2)) / rest.square().sum()
    return explained


def _explained_by_chance(bases: Tensor, rest: Tensor, shifts: Tensor) -> Tensor:
    """(shifts, K), as `_explained` of `rest` rolled by each of some shifts: many of them in one product, for speed."""
    num_lags, num_rows, width = bases.shape
    flat = bases.transpose(1, 2).reshape(num_lags * width, num_rows)
    found = []
    for some in torch.split(shifts, _SHIFTS_AT_ONCE):
        rolled = torch.cat([rest.roll(int(shift), 0) for shift in some], dim=1)
        products = (flat @ rolled).view(num_lags, width, len(some), rest.size(1))
        found.append(products.square().sum((1, 3)).t())
    return torch.cat(found) / rest.square().sum()


def _bases(x: Tensor) -> Tensor:
    """Orthonormal columns that span those of x (K, N, M); zero where a column adds nothing."""
    gram = x.transpose(1, 2) @ x
    values, vectors = torch.linalg.eigh(gram)
    kept = values > 1e-9 * values.amax(1, keepdim=True).clamp(min=1e-12)
    scale = torch.where(kept, values.clamp(min=1e-300).rsqrt(), 0.0)
    basis: Tensor = x @ (vectors * scale.unsqueeze(1))
    return basis


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)
