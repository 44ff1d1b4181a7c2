"""Which axes of the data have an order: neighbours along time say something about one another, examples do not.

The slices along an axis are dealt out anew in another order, many times. Examples that were drawn at random stand in an
order like any other, so that this test of theirs is exact; time does not, unless every step is independent of the
others and so is the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from throughtime.measurement.dependence import features
from throughtime.measurement.probe import Axes

if TYPE_CHECKING:
    from throughtime.diagnosis.evidence import Evidence

__all__ = ["AxisOrder", "ordered_axes"]

_FEWEST = 8
"""Slices along each axis: 8! orders are enough to tell one."""
_MOST = 64
_ORDERS = 200
_DIRECTIONS = 8
"""Random ones, of more features: what hangs together shows in some of them."""
_LAGS = 8
_ORDERED = 8.0
"""Standard deviations beyond chance: the largest of 200 chance orders lies at 3."""
_UNORDERED = 2.0


@dataclass(frozen=True)
class AxisOrder:
    """By how many standard deviations neighbours along each axis have more to do with one another than by chance."""

    deviations: tuple[float, float]

    def contradicts(self, axes: Axes) -> bool:
        """Whether what is taken for time has no order, and what is taken for the sequences has."""
        return self.deviations[axes.time] < _UNORDERED and self.deviations[axes.batch] > _ORDERED


def ordered_axes(evidence: Evidence) -> AxisOrder | None:
    """Of the first two axes of inputs and, where they lie alike, targets; None where there are too few slices."""
    x, y = evidence.x, evidence.case.targets
    if min(x.shape[:2]) < _FEWEST or x.dim() > 3:
        return None
    generator = torch.Generator().manual_seed(evidence.case.seed)
    x = x.detach().cpu()[:_MOST, :_MOST]
    coded = [features(x if x.dim() == 3 or not x.is_floating_point() else x.unsqueeze(-1), generator)]
    if isinstance(y, Tensor) and y.dim() in (2, 3) and y.shape[:2] == evidence.x.shape[:2]:
        y = y.detach().cpu()[:_MOST, :_MOST]
        coded.append(features(y if y.dim() == 3 or not y.is_floating_point() else y.unsqueeze(-1), generator))
    table = torch.cat(coded, dim=-1)
    table = table - table.mean((0, 1))
    if table.size(-1) > _DIRECTIONS:
        table = table @ torch.randn(table.size(-1), _DIRECTIONS, generator=generator, dtype=table.dtype)
    return AxisOrder((_deviation(table, generator), _deviation(table.transpose(0, 1), generator)))


def _deviation(table: Tensor, generator: torch.Generator) -> float:
    """Of the order of the slices along the first axis; the largest over the lags, judged by that of chance orders."""
    products = torch.einsum("abf,cbg->acfg", table, table)
    own = _by_lag(products, torch.arange(table.size(0)))
    chance = torch.stack(
        [_by_lag(products, torch.randperm(table.size(0), generator=generator)) for _ in range(_ORDERS)]
    )
    mean, spread = chance.mean(0), chance.std(0).clamp(min=1e-12)
    largest = ((chance - mean) / spread).amax(1)
    found = float(((own - mean) / spread).max())
    return (found - float(largest.mean())) / max(float(largest.std()), 1e-12)


def _by_lag(products: Tensor, order: Tensor) -> Tensor:
    """(lags,) squared norms of the covariance between slices so far apart in this order."""
    found = []
    for lag in range(1, min(_LAGS, order.numel() // 2) + 1):
        first, second = order[:-lag], order[lag:]
        covariance = products[first, second].sum(0)
        found.append(covariance.square().sum())
    return torch.stack(found)
