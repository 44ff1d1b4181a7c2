"""`need`: the longest lag at which the data says something about the target that newer inputs do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.measurement.dependence import commonest, features, held_out_errors, selected_lags
from throughtime.storage import Record

__all__ = ["NeedRecord", "coded_targets", "nearly_all", "need", "rows_of", "time_first", "values_first"]

_SHARE = 0.99
MOST_ROWS = 4000
_FEWEST_ROWS = 50
_DEFAULT_MAX_LAG = 256
_RESAMPLES = 500
_ALL_BUT = 0.05
"""Share of the variance that is not explained; where more is left, older inputs may hold something of their own."""
_MOST_CLASSES = 32
_IGNORED = -100


@dataclass(frozen=True)
class NeedRecord(Record):
    """How far back the data holds something about the target.

    Attributes:
        need: the smallest k such that inputs older than k hold less than 1 % of what was detected; None where that
            cannot be told.
        lower: end of the 95 % interval of `need`, over resampled rows; None where it is.
        upper: the other end.
        lags: those that were found to matter, ascending.
        explained: for each, the share of the target's variance that inputs up to that lag explain, on held-out rows.
        detectable: a single lag had to explain so much of the target's variance to be found.
        num_rows: positions that were used.
        max_lag: the longest lag that was looked at.
        verdict: "found" or "cannot tell".
        reason: in words.
    """

    record_kind: ClassVar[str] = "need"
    schema_version: ClassVar[int] = 1

    need: int | None
    lower: int | None
    upper: int | None
    lags: tuple[int, ...]
    explained: tuple[float, ...]
    detectable: float
    num_rows: int
    max_lag: int
    verdict: str
    reason: str

    def __str__(self) -> str:
        return self.reason


def need(
    inputs: Tensor,
    targets: Tensor,
    *,
    time_dim: int | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    max_lag: int | None = None,
    num_rows: int = MOST_ROWS,
    seed: int = 0,
) -> NeedRecord:
    """How many steps of memory the data needs: without any model, from inputs and targets alone.

    The smallest k such that inputs older than k hold less than 1 % of the information detected about the target, given
    the newer ones. Information is variance explained by ridge regression on fixed functions of single inputs (one-hot
    codes of ids; numbers and random cosines of them), on held-out rows. Lags are chosen one after another, each for
    what it says beyond those chosen before, as long as it beats what chance gives anywhere; so a slow drift or an
    autoregressive series does not get the longest lag that merely correlates. Where all but a few per cent are
    explained, it is looked whether newer lags alone say as much: of a sine, its last two values say all, though the one
    half a period ago says most by itself.

    What no single lag shows (parity, comparisons of two inputs) cannot be seen this way, and the answer is then "cannot
    tell", as it is where there is nothing to see.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: one for each sequence, (B,) or (B, C), or one for each step, (T, B, ...) as the inputs lie; ids are
            classes, of which -100 is ignored, floating-point numbers are quantities. The target of step t may depend on
            inputs up to t.
        time_dim: axis of time, 0 or 1; known without it where targets have one number a sequence and T is not B.
        lengths: of the sequences, (B,), for targets of whole sequences.
        num_rows: positions to learn from at most; with fewer it is quicker, and sees less.
        max_lag: the longest lag to look at; all of them up to 256 unless given, for whole sequences all of them.
        seed: of positions, features, shifts and resamples.

    Returns:
        The record; `print` it.

    Raises:
        InputError: if the shapes do not go together, or there are fewer than 50 rows.
        RecipeError: if `max_lag` is below 1.

    Example:
        >>> x = torch.randn(20, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> need(x, torch.roll(x, 3, dims=0), time_dim=0).need  # the target of step t is the input of step t - 3
        3
    """
    if max_lag is not None:
        at_least("max_lag", max_lag, 1)
    x, y, whole = time_first(inputs, targets, time_dim)
    if not all(bool(t.isfinite().all()) for t in (x, y) if t.is_floating_point()):
        raise InputError("inputs or targets hold NaN or infinity: clean the data first")
    generator = torch.Generator().manual_seed(seed)
    positions, rows, longest = rows_of(x, y, whole, lengths, max_lag, num_rows, generator)
    if positions.numel() < _FEWEST_ROWS:
        raise InputError(f"need has {positions.numel()} rows to learn from: expected at least {_FEWEST_ROWS}")
    by_lag = _by_lag(x, positions, rows, longest, generator)
    target = coded_targets(y[rows] if whole else y[positions, rows])
    if not bool(target.var(0).sum() > 0):
        return _cannot_tell("the target is constant", positions.numel(), longest)
    selected = selected_lags(by_lag, target, generator)
    if not selected.lags:
        what = (
            "many lags together hold something, but no single one enough"
            if selected.left_over
            else ("no lag of the inputs says anything about the target by itself")
        )
        return _cannot_tell(
            f"{what} (one that explained {selected.detectable:.1%} of its variance would have been seen)",
            positions.numel(),
            longest,
            selected.detectable,
        )
    ordered = tuple(sorted(selected.lags))
    errors = held_out_errors(by_lag, ordered, target)
    ordered, errors = _by_newer(by_lag, target, ordered, errors, seed)
    steps = _need_of(errors.sum(1), ordered)
    if steps is None:
        reason = "what was found does not hold on rows that were held out: more data are needed"
        return _cannot_tell(reason, positions.numel(), longest, selected.detectable)
    if selected.left_over:
        reason = (
            f"the target depends on lags up to {ordered[-1]} and, more weakly, on others together: more data are "
            "needed to tell how far back"
        )
        return _cannot_tell(reason, positions.numel(), longest, selected.detectable)
    resamples = torch.randint(positions.numel(), (_RESAMPLES, positions.numel()), generator=generator)
    drawn = [_need_of(errors[:, sample].sum(1), ordered) for sample in resamples]
    told = torch.tensor([lag for lag in drawn if lag is not None], dtype=torch.float64)
    lower, upper = (int(told.quantile(q, interpolation="nearest")) for q in (0.025, 0.975))
    explained = tuple((1 - errors[1:].sum(1) / errors[0].sum()).tolist())
    censored = " (the longest lag that was looked at)" if steps == longest else ""
    return NeedRecord(
        need=steps,
        lower=lower,
        upper=upper,
        lags=ordered,
        explained=explained,
        detectable=selected.detectable,
        num_rows=positions.numel(),
        max_lag=longest,
        verdict="found",
        reason=f"the data needs {steps} steps{censored}, between {lower} and {upper}; inputs up to there explain "
        f"{explained[ordered.index(steps)]:.1%} of the target's variance",
    )


def _by_lag(x: Tensor, positions: Tensor, rows: Tensor, longest: int, generator: torch.Generator) -> Tensor:
    """(K, N, M) functions of the input at each lag; ids that are common at that lag have codes of their own."""
    if x.is_floating_point():
        coded = features(x, generator)
        return torch.stack([coded[positions - lag, rows] for lag in range(longest + 1)])
    each = [features(x[positions - lag, rows], generator) for lag in range(longest + 1)]
    widest = max(codes.size(1) for codes in each)
    return torch.stack([torch.nn.functional.pad(codes, (0, widest - codes.size(1))) for codes in each])


def _by_newer(
    by_lag: Tensor, target: Tensor, lags: tuple[int, ...], errors: Tensor, seed: int
) -> tuple[tuple[int, ...], Tensor]:
    """The lags and their errors; or, where lags that are all newer than the need say as much, as few as do.

    Only where next to nothing is left to explain: else each lag also averages noise away, and does so for good.
    """
    total = errors.sum(1)
    steps = _need_of(total, lags)
    if not steps or not nearly_all(1 - float(total.min() / total[0])):
        return lags, errors
    enough = total[0] - _SHARE * (total[0] - total.min())
    best, few, many = (lags, errors), 0, steps + 1  # how many of the newest lags: too few, and enough
    count = steps
    while many - few > 1:
        newer = tuple(sorted(selected_lags(by_lag[:count], target, torch.Generator().manual_seed(seed)).lags))
        found = held_out_errors(by_lag, newer, target)
        reached = (found.sum(1) <= enough).nonzero()
        if reached.numel():
            best, many = (newer, found), newer[int(reached[0]) - 1] + 1
        elif count == steps:
            break  # what the oldest one says, no newer ones do
        else:
            few = count
        count = (few + many) // 2
    return best


def nearly_all(explained: float) -> bool:
    """Whether a share of a target's variance leaves so little that older inputs have hardly anything to add."""
    return explained >= 1 - _ALL_BUT


def _need_of(errors: Tensor, lags: tuple[int, ...]) -> int | None:
    """The first lag up to which all but 1 % of what can be explained is; None where nothing can."""
    gains = errors[0] - errors[1:]
    best = gains.max()
    if best <= 0:
        return None
    return lags[int((gains >= _SHARE * best).nonzero()[0])]


def _cannot_tell(reason: str, num_rows: int, max_lag: int, detectable: float = 0.0) -> NeedRecord:
    return NeedRecord(
        None,
        None,
        None,
        (),
        (),
        detectable,
        num_rows,
        max_lag,
        "cannot tell",
        f"cannot tell what the data needs: {reason}",
    )


def values_first(inputs: Tensor, time_dim: int) -> Tensor:
    """Inputs as (T, B) ids or (T, B, I) numbers: one number a step gets an axis of its own, and several are no ids."""
    x = inputs.detach().cpu().movedim(time_dim, 0)
    x = x.flatten(2) if x.dim() > 3 else x  # a picture a step
    if x.is_floating_point() and x.dim() == 2:
        return x.unsqueeze(-1)
    return x.double() if not x.is_floating_point() and x.dim() > 2 else x


def time_first(inputs: Tensor, targets: Tensor, time_dim: int | None) -> tuple[Tensor, Tensor, bool]:
    """Inputs (T, B, ...), targets as they lie then, and whether these are of whole sequences."""
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor) or inputs.dim() < 2:
        raise InputError("need takes a tensor of inputs (T, B, ...) and one of targets")
    if inputs.is_complex() or targets.is_complex():
        raise InputError("need takes real numbers: hand over real and imaginary part as two features")
    if time_dim not in (None, 0, 1):
        raise InputError(f"time_dim must be 0 or 1, not {time_dim}")
    shape = tuple(inputs.shape[:2])
    of_steps = tuple(targets.shape[:2]) == shape
    if time_dim is None:
        of_rows = [axis for axis in (0, 1) if targets.dim() and targets.size(0) == shape[axis]]
        if of_steps or len(of_rows) != 1:
            raise InputError(
                f"inputs of shape {tuple(inputs.shape)} and targets of shape {tuple(targets.shape)} do not say which "
                "axis is time: give time_dim=0 or time_dim=1"
            )
        time_dim = 1 - of_rows[0]
    x = values_first(inputs, time_dim)
    y = targets.detach().cpu()
    if of_steps:
        return x, y.movedim(time_dim, 0), False
    if y.dim() and y.size(0) == x.size(1):
        return x, y, True
    raise InputError(
        f"targets of shape {tuple(targets.shape)} are neither one for each of {x.size(1)} sequences nor one for each "
        f"step of inputs of shape {tuple(inputs.shape)}"
    )


def rows_of(
    x: Tensor,
    y: Tensor,
    whole: bool,
    lengths: Tensor | Sequence[int] | None,
    max_lag: int | None,
    most: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, int]:
    """Positions (N,) whose target counts, the sequence of each, and the longest lag that all of them have."""
    num_steps, batch = x.shape[:2]
    if whole:
        last = torch.full((batch,), num_steps - 1) if lengths is None else torch.as_tensor(lengths).cpu().long() - 1
        if last.shape != (batch,) or int(last.min()) < 0 or int(last.max()) >= num_steps:
            raise InputError(f"lengths must be {batch} numbers from 1 to {num_steps}, one for each sequence")
        longest = int(last.min()) if max_lag is None else min(max_lag, int(last.min()))
        counted = _counted(y).nonzero().flatten()
        chosen = counted[torch.randperm(counted.numel(), generator=generator)[:most]].sort().values
        return last[chosen], chosen, longest
    counted = _counted(y)
    first = int(counted.any(1).nonzero()[0]) if bool(counted.any()) else 0
    longest = min(num_steps - 1, max(num_steps * 3 // 4, first), max_lag or _DEFAULT_MAX_LAG)
    rows, steps = counted[longest:].t().nonzero(as_tuple=True)  # sequence after sequence
    steps = steps + longest
    if steps.numel() > most:
        chosen = torch.randperm(steps.numel(), generator=generator)[:most].sort().values
        steps, rows = steps[chosen], rows[chosen]
    return steps, rows, longest


def _counted(y: Tensor) -> Tensor:
    """Which targets count: in classes, -100 does not."""
    if y.is_floating_point() or y.dim() > 2:
        return torch.ones(y.shape[:2] if y.dim() > 1 else y.shape, dtype=torch.bool)
    return y != _IGNORED


def coded_targets(y: Tensor) -> Tensor:
    """(N, C): classes as one-hot codes, quantities with variance 1."""
    if y.is_floating_point():
        flat = y.double().flatten(1) if y.dim() > 1 else y.double().unsqueeze(1)
        return (flat - flat.mean(0)) / flat.std(0).clamp(min=1e-12)
    if y.dim() > 1:
        raise InputError(f"targets that are classes have one number each, not shape {tuple(y.shape)}")
    kinds = commonest(y, _MOST_CLASSES)
    return (y.unsqueeze(1) == kinds).double()
