"""How far back the data is needed where no single lag shows it: by blocks of lags, each as long as all newer ones.

A keyword that may stand anywhere, or two marked numbers to be added, leave too little at each lag to be seen there;
what is pooled over a block of lags shows it. The answer is then a block, not a lag.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.measurement.dependence import features, held_out_errors, selected_lags
from throughtime.measurement.need_rows import coded_targets, rows_of, time_first, values_first

__all__ = ["BlockNeed", "holds_signal", "need_by_blocks", "need_from_start"]

_WIDEST_PRODUCTS = 8
_MOST_POOLED = 24
"""Pooled functions of a block at most, so that a few dozen sequences are enough to learn from."""
_LEAST_SHARE = 0.05
"""The oldest block counts if it holds at least this share of what was found, on rows that were held out."""
_FEWEST_ROWS = 24
_MOST_ROWS = 2000
_SHUFFLES = 99


@dataclass(frozen=True)
class BlockNeed:
    """The oldest block of lags that holds something about the target.

    Attributes:
        lower: its newest lag: the data needs at least so many steps.
        upper: its oldest lag: it needs at most so many.
        explained: share of the target's variance that blocks up to there explain, on held-out rows.
        num_rows: positions that were used.
    """

    lower: int
    upper: int
    explained: float
    num_rows: int


def need_by_blocks(
    inputs: Tensor,
    targets: Tensor,
    *,
    time_dim: int | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    seed: int = 0,
) -> BlockNeed | None:
    """The oldest of the blocks of lags 0, 1, 2-3, 4-7, ... that says something beyond what the newer ones say.

    Pooled over a block are the functions of single inputs that `throughtime.need` uses, and products of two features of
    one input. Blocks are chosen as `need` chooses lags, against chance and given one another.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: one for each sequence, or one for each step, as the inputs lie.
        time_dim: axis of time, 0 or 1.
        lengths: of the sequences, (B,): what stands behind does not count.
        seed: of positions, features and shifts.

    Returns:
        The block, or None where no block beats chance.

    Raises:
        InputError: if the shapes do not go together.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> x = torch.rand(60, 200, 2, generator=draw)
        >>> x[..., 1] = 0
        >>> marked = torch.randint(0, 20, (200,), generator=draw)  # one of the oldest 20 steps of 60
        >>> x[marked, torch.arange(200), 1] = 1
        >>> found = need_by_blocks(x, x[marked, torch.arange(200), 0], time_dim=0)
        >>> (found.lower, found.upper)
        (32, 59)
    """
    generator = torch.Generator().manual_seed(seed)
    x, y, whole = time_first(inputs, targets, time_dim)
    positions, rows, longest = rows_of(x, y, whole, lengths, None, _MOST_ROWS, generator)
    if positions.numel() < _FEWEST_ROWS or longest < 1:
        return None
    target = coded_targets(y[rows] if whole else y[positions, rows])
    if not bool(target.var(0).sum() > 0):
        return None
    summed = torch.cumsum(_functions(x, generator), 0)
    edges = [0, *(2**power for power in range(20) if 2**power <= longest), longest + 1]
    spans = list(itertools.pairwise(edges))
    pooled = torch.stack([_pooled(summed, positions, rows, newest, oldest) for newest, oldest in spans])
    selected = selected_lags(pooled, target, generator)
    if not selected.lags:
        return None
    ordered = tuple(sorted(selected.lags))
    errors = held_out_errors(pooled, ordered, target).sum(1)
    gains = errors[0] - errors[1:]
    if float(gains.max()) <= 0:
        return None
    kept = [block for block, gain in zip(ordered, gains, strict=True) if gain >= (1 - _LEAST_SHARE) * gains.max()]
    newest, oldest = spans[kept[0]]
    explained = float(gains[ordered.index(kept[0])] / errors[0])
    return BlockNeed(newest, oldest - 1, explained, positions.numel())


def need_from_start(
    inputs: Tensor, targets: Tensor, lengths: Tensor, *, time_dim: int, seed: int = 0
) -> BlockNeed | None:
    """Where sequences differ in length, and what their targets hang on stands so many steps after the start.

    The oldest step, counted from the start, that says something about the target, among those that all sequences have.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: (B,) or (B, C).
        lengths: (B,).
        time_dim: axis of time, 0 or 1.
        seed: of features and shifts.

    Returns:
        From how many to how many steps before the ends that is; None where no step beats chance.
    """
    generator = torch.Generator().manual_seed(seed)
    x = values_first(inputs, time_dim)
    target = coded_targets(targets.detach().cpu())
    lengths = lengths.cpu().long()
    common = int(lengths.min())
    if x.size(1) < _FEWEST_ROWS or not bool(target.var(0).sum() > 0):
        return None
    each = [features(x[step], generator) for step in range(common)]
    widest = max(codes.size(-1) for codes in each)
    by_step = torch.stack([torch.nn.functional.pad(codes, (0, widest - codes.size(-1))) for codes in each])
    selected = selected_lags(by_step, target, generator)
    if not selected.lags:
        return None
    ordered = tuple(sorted(selected.lags))
    errors = held_out_errors(by_step, ordered, target).sum(1)
    if not bool(errors[-1] < errors[0]):
        return None
    oldest = ordered[0]
    explained = float(1 - errors[-1] / errors[0])
    return BlockNeed(common - 1 - oldest, int(lengths.max()) - 1 - oldest, explained, x.size(1))


def holds_signal(
    inputs: Tensor, targets: Tensor, *, time_dim: int, lengths: Tensor | None = None, seed: int = 0
) -> bool:
    """Whether examples with like inputs have like targets, wherever in the sequence that lies.

    Each example is the mean of functions of its inputs (of ids: how often each occurs); the statistic is r^T K r, with
    r the centred targets and K the products of examples, compared with that of shuffled targets, at the 1 % level.

    *Reference*: Goeman, van de Geer, de Kort & van Houwelingen 2004, *A global test for groups of genes*.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: one for each sequence.
        time_dim: axis of time, 0 or 1.
        lengths: of the sequences, (B,).
        seed: of features and shuffles.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> ids = torch.randint(50, (20, 200), generator=draw)
        >>> holds_signal(ids, ((ids < 10).sum(0) > 4).long(), time_dim=0)
        True
        >>> holds_signal(ids, torch.randint(2, (200,), generator=draw), time_dim=0)
        False
    """
    generator = torch.Generator().manual_seed(seed)
    x = values_first(inputs, time_dim)
    valid = torch.ones(x.shape[:2], dtype=torch.float64)
    if lengths is not None:
        valid = (torch.arange(x.size(0)).unsqueeze(1) < lengths.cpu()).double()
    if x.is_floating_point():
        bags = (_functions(x, generator) * valid.unsqueeze(2)).sum(0)
    else:
        kinds, places = torch.unique(x, return_inverse=True)
        bags = torch.zeros(x.size(1), kinds.numel(), dtype=torch.float64)
        bags.index_put_((torch.arange(x.size(1)).expand_as(places), places), valid, accumulate=True)
    bags = bags / valid.sum(0).unsqueeze(1)
    bags = (bags - bags.mean(0)) / bags.std(0).clamp(min=1e-9)
    rest = coded_targets(targets.detach().cpu())
    rest = rest - rest.mean(0)

    def likeness(order: Tensor | slice) -> float:
        return float((bags.t() @ rest[order]).square().sum())

    found = likeness(slice(None))
    shuffled = [likeness(torch.randperm(rest.size(0), generator=generator)) for _ in range(_SHUFFLES)]
    return all(found > other for other in shuffled)


def _functions(x: Tensor, generator: torch.Generator) -> Tensor:
    """(T, B, M) functions of single inputs, products of two features included."""
    coded = features(x, generator)
    if x.is_floating_point() and x.size(-1) <= _WIDEST_PRODUCTS:
        first, second = torch.triu_indices(x.size(-1), x.size(-1))
        products = x.double()[..., first] * x.double()[..., second]
        flat = products.flatten(0, -2)
        coded = torch.cat([coded[..., : x.size(-1)], (products - flat.mean(0)) / flat.std(0).clamp(min=1e-12)], -1)
    if coded.size(-1) > _MOST_POOLED:
        mixing = torch.randn(coded.size(-1), _MOST_POOLED, generator=generator, dtype=torch.float64)
        coded = coded @ mixing / coded.size(-1) ** 0.5
    return coded


def _pooled(summed: Tensor, positions: Tensor, rows: Tensor, newest: int, oldest: int) -> Tensor:
    """(N, M) sums over lags newest <= k < oldest before each position."""
    last, before = positions - newest, positions - oldest
    found = summed[last.clamp(min=0), rows] * (last >= 0).unsqueeze(1)
    pooled: Tensor = found - summed[before.clamp(min=0), rows] * (before >= 0).unsqueeze(1)
    return pooled
