"""`need`: the longest lag at which the data says something about the target that newer inputs do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from throughtime.check import at_least, one_of
from throughtime.errors import InputError
from throughtime.measurement.need_by_counts import told_by_counts
from throughtime.measurement.need_by_variance import told_by_variance
from throughtime.measurement.need_rows import MOST_ROWS, coded_targets, products_of, rows_that_count, time_first
from throughtime.measurement.need_told import SHARE, Told, need_of
from throughtime.storage import Record

__all__ = ["NeedRecord", "need"]

_FEWEST_ROWS = 50
_RESAMPLES = 500
_SURE = 0.95
"""Of the resamples, those in which what was found has to hold: one that fails in more of them may be chance."""
_NOT_HELD = "what was found does not hold on rows that were held out: more data are needed"
_LITTLE = 0.01
"""What a single lag tells, where it is said how many rows it would take to see that."""


@dataclass(frozen=True)
class NeedRecord(Record):
    """How far back the data holds something about the target.

    Attributes:
        need: the smallest k such that inputs older than k hold less than 1 % of what was detected; None where that
            cannot be told.
        lower: end of the 95 % interval of `need`, over resampled rows; None where it is.
        upper: the other end.
        lags: those that were found to matter, ascending.
        explained: for each, the share of the target's variance that inputs up to that lag explain, on held-out rows; or
            of its entropy, chance taken off.
        detectable: a single lag had to explain so much of the target's variance or entropy to be found.
        num_rows: positions that were used.
        max_lag: the longest lag that was looked at.
        verdict: "found" or "cannot tell".
        reason: in words.
        unit: what is explained, "variance" or "entropy".
        rows_needed: about how many rows it would take to tell what could not be told; None where they were enough, or
            it is not known.
        need_censored: whether more may be needed: an older input that held 1 % of the information would not have been
            seen in so few rows, or older ones were not looked at.
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
    unit: str = "variance"
    rows_needed: int | None = None
    need_censored: bool = False

    def __str__(self) -> str:
        return self.reason


def need(
    inputs: Tensor,
    targets: Tensor | None,
    *,
    time_dim: int | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    max_lag: int | None = None,
    num_rows: int | None = None,
    information: Literal["variance", "entropy"] | None = None,
    seed: int = 0,
) -> NeedRecord:
    """How many steps of memory the data needs: without any model, from inputs and targets alone.

    The smallest k such that inputs older than k hold less than 1 % of the information detected about the target, given
    the newer ones. It is measured in closed form, and counts only where it beats what chance gives at any lag. Where
    the rows are so few that an older input with 1 % of the information would not have been seen, it is "at least" k.

    *Variance*: what ridge regression on fixed functions of single inputs (themselves and random cosines, ids as up to
    32 indicators) explains on held-out rows. Lags are chosen one after another, each for what it says beyond those
    chosen before; so a slow drift or an autoregressive series does not get the longest lag that merely correlates.
    Where all but a few per cent are explained, it is looked whether newer lags alone say as much: of a sine, its last
    two values say all. Where no lag says anything of a target of two to four quantities, their products are asked: an
    action and what it brought may each be random, and yet go together as the inputs say.

    *Entropy*, of ids that tell classes, where it is the rule: conditional mutual information in nats, from counts
    (`throughtime.measurement.need_by_counts`). From the newest input on, each lag counts for what it says beyond what
    is foretold from the newer ones, by experts that count and that are pooled so that they foretell held-out rows best.
    Chance is what is found of targets drawn as was foretold. While the newest inputs together form few enough contexts,
    what they tell only together is seen too.

    docs/explanation/need.md compares the two.

    What no single lag shows (parity, comparisons of two inputs) cannot be seen this way, and the answer is then "cannot
    tell", as it is where there is nothing to see, or where the rows do not suffice; then `rows_needed` says how many
    might.

    Args:
        inputs: (T, B, I) or (T, B) ids, or batch first with `time_dim=1`.
        targets: one for each sequence, (B,) or (B, C), or one for each step, (T, B, ...) as the inputs lie; ids are
            classes, of which -100 is ignored, floating-point numbers are quantities. The target of step t may depend on
            inputs up to t.
        time_dim: axis of time, 0 or 1; known without it where targets have one number a sequence and T is not B.
        lengths: of the sequences, (B,): what stands behind does not count; unless given all are as long as the inputs.
        num_rows: positions to learn from at most; with fewer it is quicker, and sees less. Unless given 4000;
            of entropy so many more as a few seconds allow, and more for newer lags, which more rows have.
        max_lag: the longest lag to look at; all of them up to 256 unless given, for whole sequences all of them.
        information: what is explained, "variance" or "entropy"; unless given the entropy where ids tell classes, the
            variance where numbers are among them.
        seed: of positions, features, chance and resamples.

    Returns:
        The record; `print` it.

    Raises:
        InputError: if the shapes do not go together, or there are fewer than 50 rows.
        RecipeError: if `max_lag` or `num_rows` is below 1, or `information` is neither.

    Example:
        >>> x = torch.randn(20, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> need(x, torch.roll(x, 3, dims=0), time_dim=0).need  # the target of step t is the input of step t - 3
        3
    """
    for name, value in (("max_lag", max_lag), ("num_rows", num_rows)):
        if value is not None:
            at_least(name, value, 1)
    x, y, whole = time_first(inputs, targets, time_dim)
    if not all(bool(t.isfinite().all()) for t in (x, y) if t.is_floating_point()):
        raise InputError("inputs or targets hold NaN or infinity: clean the data first")
    numbers = x.is_floating_point() or y.is_floating_point()
    unit = one_of("information", information or ("variance" if numbers else "entropy"), ("variance", "entropy"))
    by_counts = unit == "entropy"
    if by_counts and numbers:
        raise InputError('information="entropy" is of ids that tell classes, and these are numbers: take "variance"')
    generator = torch.Generator().manual_seed(seed)
    rows = rows_that_count(x, y, whole, lengths, max_lag)
    positions, sequences = rows.reaching(rows.longest, num_rows or MOST_ROWS, generator)
    if positions.numel() < _FEWEST_ROWS:
        raise InputError(f"need has {positions.numel()} rows to learn from: expected at least {_FEWEST_ROWS}")
    target = coded_targets(y[sequences] if whole else y[positions, sequences])
    about = About(positions.numel(), rows.longest, unit, older=rows.longest < x.size(0) - 1)
    if not bool(target.var(0).sum() > 0):
        return about.cannot_tell("the target is constant")
    if by_counts:
        told = told_by_counts(x, y, rows, num_rows, generator, seed)
        about = replace(about, num_rows=told.left.size(1))
    else:
        told = told_by_variance(x, positions, sequences, rows.longest, target, generator, seed)
        products = products_of(target) if y.is_floating_point() and not told.lags else None
        if products is not None:
            of_products = told_by_variance(x, positions, sequences, rows.longest, products, generator, seed)
            told = of_products if of_products.lags else told
    return about.judged(told, generator)


def _explained(told: Told) -> tuple[float, ...]:
    """For each lag that was found, the share that it and those below it explain."""
    return tuple((1 - told.left[1:].sum(1) / told.left[0].sum()).tolist())


@dataclass(frozen=True)
class About:
    """What a record says whatever was found; `older` is whether there are inputs that were not looked at."""

    num_rows: int
    max_lag: int
    unit: str
    older: bool

    def judged(self, told: Told, generator: torch.Generator) -> NeedRecord:
        """The record of what was told."""
        if not told.lags:
            return self._nothing(told)
        steps = need_of(told.left.sum(1), told.lags)
        if steps is None:
            return self.cannot_tell(_NOT_HELD, told)
        if told.left_over:
            reason = (
                f"the target depends on lags up to {told.lags[-1]} and, more weakly, on others together: "
                f"{self._more_rows(told.rows_needed)} to tell how far back"
            )
            return self.cannot_tell(reason, told, told.rows_needed)
        resamples = torch.randint(self.num_rows, (_RESAMPLES, self.num_rows), generator=generator)
        how_often = (torch.bincount(sample, minlength=self.num_rows).to(told.left.dtype) for sample in resamples)
        drawn = [need_of(told.left @ counts, told.lags) for counts in how_often]
        found = torch.tensor([lag for lag in drawn if lag is not None], dtype=torch.float64)
        if len(found) < _SURE * _RESAMPLES:
            return self.cannot_tell(_NOT_HELD, told)
        lower, upper = (int(found.quantile(q, interpolation="nearest")) for q in (0.025, 0.975))
        explained = _explained(told)
        at_the_end = steps == self.max_lag
        farthest = " (the longest lag that was looked at)" if at_the_end else ""
        unseen = 0.0 if at_the_end else _unseen(told)
        few = unseen > 1 - SHARE
        censored = few or (at_the_end and self.older)
        needed = f"{'at least ' * censored}{steps} step{'s' * (steps != 1)}{farthest}"
        reason = (
            f"the data needs {needed}, between {lower} and {upper}; inputs up to there explain "
            f"{explained[told.lags.index(steps)]:.1%} of the target's {self.unit}"
        )
        rows_needed = math.ceil(self.num_rows * unseen / (1 - SHARE)) if few else None
        if few:
            reason += (
                f", and an older one that added less than {unseen:.0%} to that would not have been seen "
                f"({self._more_rows(rows_needed)} to see {1 - SHARE:.0%})"
            )
        return NeedRecord(
            need=steps,
            lower=lower,
            upper=upper,
            lags=told.lags,
            explained=explained,
            detectable=told.detectable,
            num_rows=self.num_rows,
            max_lag=self.max_lag,
            verdict="found",
            reason=reason,
            unit=self.unit,
            rows_needed=rows_needed,
            need_censored=censored,
        )

    def cannot_tell(self, reason: str, told: Told | None = None, rows_needed: int | None = None) -> NeedRecord:
        """A record without a need; with the lags that matter in any case, where more may."""
        lags = told.lags if told is not None and told.left_over else ()
        return NeedRecord(
            need=None,
            lower=None,
            upper=None,
            lags=lags,
            explained=_explained(told) if told is not None and lags else (),
            detectable=0.0 if told is None else told.detectable,
            num_rows=self.num_rows,
            max_lag=self.max_lag,
            verdict="cannot tell",
            reason=f"cannot tell what the data needs: {reason}",
            unit=self.unit,
            rows_needed=rows_needed,
        )

    def _nothing(self, told: Told) -> NeedRecord:
        """No single lag was found: what one would have had to explain, and how many rows would show less."""
        seen = f"one that explained {told.detectable:.1%} of its {self.unit} would have been seen"
        if told.left_over:
            what = f"many lags together hold something, but no single one enough ({seen})"
            more = "" if told.rows_needed is None else f"; {self._more_rows(told.rows_needed)} to see each"
            return self.cannot_tell(what + more, told, told.rows_needed)
        needed = math.ceil(self.num_rows * told.detectable / _LITTLE)  # what chance gives falls as rows grow
        few = needed > self.num_rows
        less = (
            f", one that explained {_LITTLE:.0%} takes about {needed} rows in place of {self.num_rows}" if few else ""
        )
        reason = f"no lag of the inputs says anything about the target by itself ({seen}{less})"
        return self.cannot_tell(reason, told, needed if few else None)

    @staticmethod
    def _more_rows(needed: int | None) -> str:
        return "more data are needed" if needed is None else f"about {needed} rows are needed"


def _unseen(told: Told) -> float:
    """What a single older input might add to what is told, as a share of that, without being found."""
    left = told.left.sum(1)
    gained = float(left[0] - left.min())
    return min(told.detectable * float(left[0]), float(left.min())) / gained
