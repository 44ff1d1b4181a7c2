"""How far back ids are needed to tell classes, by conditional mutual information from counts.

From the newest input on, one lag after another: does the input there say more about the target than is foretold from
the newer ones? What is foretold comes from a pool of experts that count (`need_experts`), for each row from rows that
were held out; so what newer inputs tell is known as a probability of each class, whether they tell it one by one, as
votes, or only together, and what is told twice counts once. The information of a lag is the divergence of how often
each class is counted where the input is some id from how often it is foretold there. Chance is what is counted of
targets that are drawn as was foretold (as conditional randomization tests do, Candes et al. 2018), and more of it where
neighbouring rows err alike.

While all of the newest inputs together, whether they matter or not, are few enough contexts, they are conditioned upon
too: of two bits whose exclusive or is asked for, neither tells anything alone.

How much is told up to a lag is measured by the nats that it spares on held-out rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime.measurement.counts import Contexts, Foretold, Information, alike, coded, dense, paired
from throughtime.measurement.need_experts import Experts, Forecast
from throughtime.measurement.need_rows import MOST_ROWS, Rows
from throughtime.measurement.need_told import Told

__all__ = ["told_by_counts"]

_LEVEL = 0.01
_ROWS_OF_A_CELL = 10
"""Or as many as there are classes, if these are more."""
_MOST_GROUPS = 128
_ROWS_OF_A_JOINT_CONTEXT = 20
_WAYS = 3
"""In which an input is asked what it says: by itself, in groups, beside all newer ones."""
_MOST_LAGS = 32
_ROUNDS = 4
_FAR_DEVIATIONS = 3
_UNSURE_DEVIATIONS = 2
_LIKE_CHANCE, _FAR_FROM_CHANCE = 0.05, 1e-12
"""What is as probable as that by a few draws is not looked into any more."""
_BEYOND_ANY_DOUBT = 1e-6
"""Of the level: what is so improbable counts, though it is less than twice chance."""
_LITTLE = 0.01
"""Of what is told; older inputs that hold less than that between them do not count."""
_MOST_TOGETHER = 64
_INFLATIONS = 8
"""Lags by which it is judged how much alike neighbouring rows err."""
_FIRST_LAGS = 16
_MANY_MORE = 1.25
"""Lags up to 16, 64 and so on are asked first where they have so many times the rows."""
_ENTRIES, _MANY_ROWS = 1_000_000, 20_000
"""Rows times lags of a stage, and rows, that are counted in about a second."""


@dataclass(frozen=True)
class _Step:
    """An input that was found to matter: beyond what is foretold, or together with all of the newer ones."""

    lag: int
    with_newer: bool = False


@dataclass(frozen=True)
class _Known:
    """What is foretold from some inputs, and rows of which much the same is."""

    forecast: Forecast
    alone: Contexts
    grouped: Contexts | None
    counted: dict[int, Tensor] = field(default_factory=dict)
    """What each lag that was asked by itself says, beside chance."""


@dataclass
class _Search:
    """What is told by one input after another.

    Attributes:
        ids: (K, N) the inputs at each lag.
        codes: (K, N) the same as few codes.
        experts: those of the targets.
        seed: of the draws.
        independent: whether each row is of a sequence of its own.
        steps: the inputs that were found to matter, from the newest on.
        known: what is foretold without any input, with the first of the steps, with two ...
    """

    ids: Tensor
    codes: Tensor
    experts: Experts
    seed: int
    independent: bool
    steps: list[_Step] = field(default_factory=list)
    known: list[_Known] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = [self._of(self.experts.told_nothing())]

    @classmethod
    def of(cls, ids: Tensor, targets: Tensor, seed: int, independent: bool) -> _Search:
        """Of ids (K, N) and classes (N,)."""
        ids = ids - ids.min()
        codes = torch.stack([dense(coded(each)) for each in ids])
        return cls(ids, codes, Experts(dense(coded(targets))), seed, independent)

    @property
    def level(self) -> float:
        """At which each lag is judged, each way."""
        return _LEVEL / len(self.ids) / _WAYS

    def rest(self) -> list[int]:
        """Lags that are no steps, of inputs that are not always the same."""
        chosen = {step.lag for step in self.steps}
        return [lag for lag in range(len(self.codes)) if lag not in chosen and bool(self.codes[lag].any())]

    def add(self, step: _Step) -> None:
        """One more step, the oldest of all."""
        before = self.known[-1].forecast
        exact = self.joint(step.lag) if step.with_newer else dense(paired(before.context, self.ids[step.lag]))
        grouped = self.known[-1].grouped
        groups = torch.zeros_like(exact) if grouped is None else grouped.groups
        self.steps.append(step)
        self.known.append(self._of(self.experts.told(before, self.codes[step.lag], exact, groups)))

    def insert(self, step: _Step) -> None:
        """One more step among the others, of which the older ones are told anew."""
        older = [other for other in self.steps if other.lag > step.lag]
        kept = len(self.steps) - len(older)
        del self.steps[kept:], self.known[kept + 1 :]
        for other in [step, *older]:
            self.add(other)

    def tells_alone(self, lag: int) -> bool:
        """Whether the input at a lag says more, by itself, than chance does."""
        return self.is_more(self.known[-1].alone, self.codes[lag], self.counted(lag))

    def counted(self, lag: int) -> Tensor:
        """(1 + draws,) what the input at a lag says by itself, beside chance."""
        known = self.known[-1]
        if lag not in known.counted:
            known.counted[lag] = known.alone.counted(self.codes[lag])
        return known.counted[lag]

    def is_more(self, contexts: Contexts, codes: Tensor, counted: Tensor) -> bool:
        """Whether what was counted is more than chance.

        Where rows follow one another, it is not quite known what chance is. Then it has to be twice of it, as Akaike's
        criterion asks for, or beyond any doubt.
        """
        info = contexts.judged(counted)
        if info.probability >= _LIKE_CHANCE:
            return False
        inflation = 1.0 if self.independent else contexts.inflation(codes)
        info = info.inflated(inflation)
        if not self.independent and info.nats <= 2 * info.chance:
            return info.probability < self.level * _BEYOND_ANY_DOUBT
        if _FAR_FROM_CHANCE < info.probability < _LIKE_CHANCE:
            info = contexts.judged(contexts.counted_more(codes, counted)).inflated(inflation)
        return info.probability < self.level

    def step_at(self, lag: int, newer: Contexts | None) -> _Step | None:
        """The input at a lag as a step, if it says something."""
        codes, known = self.codes[lag], self.known[-1]
        if newer is not None and self.is_more(newer, codes, newer.counted(codes)):
            return _Step(lag, with_newer=True)
        grouped = known.grouped
        found = self.tells_alone(lag) or (grouped is not None and self.is_more(grouped, codes, grouped.counted(codes)))
        return _Step(lag) if found else None

    def joint(self, longest: int) -> Tensor:
        """(N,) all inputs up to a lag, as one context."""
        groups = torch.zeros_like(self.experts.targets)
        for codes in self.codes[: longest + 1]:
            groups = dense(paired(groups, codes))
        return groups

    def left(self) -> Tensor:
        """(len(steps) + 1, N) nats that are left in each row."""
        return torch.stack([self.experts.loss(known.forecast.shares) for known in self.known])

    def told_nearly_all(self) -> bool:
        """Whether so little is left that nothing older can hold 1 % of what is told."""
        left = self.left().mean(1)
        return bool(left[-1] < _LITTLE * (left[0] - left[-1]))

    def _of(self, forecast: Forecast) -> _Known:
        foretold = Foretold(self.experts.targets, forecast.shares, self.seed)
        of_a_cell = max(_ROWS_OF_A_CELL, forecast.shares.size(1))
        most = min(len(foretold.targets) // (of_a_cell * (int(self.codes.max()) + 1)), _MOST_GROUPS)
        groups = dense(forecast.context)
        if int(groups.max()) + 1 > most:
            groups = alike(forecast.shares, max(most, 1), self.seed)
        alone = Contexts(torch.zeros_like(groups), foretold)
        return _Known(forecast, alone, Contexts(groups, foretold) if bool(groups.any()) else None)


def told_by_counts(
    x: Tensor, y: Tensor, rows: Rows, num_rows: int | None, generator: torch.Generator, seed: int
) -> Told:
    """Which lags of ids say something about targets that newer ones do not, and how much.

    Lags are asked in stages, each of all the rows that reach back so far, of which newer lags have more.

    Args:
        x: (T, B) ids.
        y: (B,) or (T, B) classes.
        rows: the targets that count.
        num_rows: at most so many of them.
        generator: of rows, where there are too many.
        seed: of the draws.
    """
    shortest, found = 0, None
    steps: list[_Step] = []
    for longest in _stages(rows, num_rows):
        positions, sequences = rows.reaching(longest, num_rows or _most_rows(longest), generator)
        ids = torch.stack([x[positions - lag, sequences].long() for lag in range(longest + 1)])
        targets = y[sequences] if rows.whole else y[positions, sequences]
        search = _Search.of(ids, targets.long(), seed, rows.whole)
        for step in steps:
            search.add(step)
        _find(search, shortest)
        if found is None or len(search.steps) > len(steps):
            _complete(search)
            found, steps = search, list(search.steps)
        shortest = longest + 1
        if search.told_nearly_all():
            break
    assert found is not None  # there is one stage at least
    return _with_rest(found, search)


def _with_rest(found: _Search, last: _Search) -> Told:
    """What was found, and whether older inputs hold something besides, by the rows that reach back farthest."""
    left = found.left() if found.steps else last.left()
    lags = tuple(step.lag for step in found.steps)
    alone = last.known[-1].alone
    counted = {lag: last.counted(lag) for lag in last.rest() if not lags or lag > lags[-1]}
    if not counted:
        return Told(lags, left, 0.0)
    judged = {lag: alone.judged(each) for lag, each in counted.items()}
    limit = float(torch.tensor([info.detectable(last.level) for info in judged.values()]).median())
    share = limit / float(last.left()[0].mean())
    excess = 0.0 if last.told_nearly_all() else _together(last, counted)
    if not excess or (lags and not _may_matter(last, judged)):
        return Told(lags, left, share)
    return Told(lags, left, share, True, int(last.codes.size(1) * limit / (excess / len(counted))))


def _stages(rows: Rows, num_rows: int | None) -> list[int]:
    """The last lag of each; the newer ones have a stage of their own where that has many more rows."""

    def count(longest: int) -> int:
        return min(int(rows.counted[longest:].sum()), num_rows or _most_rows(longest))

    stages = [rows.longest]
    lasts = [_FIRST_LAGS * 4**power for power in range(10) if _FIRST_LAGS * 4**power < rows.longest]
    for last in reversed(lasts):
        if count(last) > _MANY_MORE * count(stages[0]):
            stages.insert(0, last)
    return stages


def _most_rows(longest: int) -> int:
    return min(max(MOST_ROWS, _ENTRIES // (longest + 1)), _MANY_ROWS)


def _find(search: _Search, shortest: int) -> None:
    """From the newest on, of the inputs from a lag on, those that say more than chance does."""
    newer: Iterator[Contexts | None] = itertools.repeat(None) if shortest else _newer(search)
    for lag, together in zip(range(len(search.codes)), newer, strict=False):
        if lag < shortest or not bool(search.codes[lag].any()):
            continue
        step = search.step_at(lag, together)
        if step is not None:
            search.add(step)
            if len(search.steps) == _MOST_LAGS:
                break


def _newer(search: _Search) -> Iterator[Contexts | None]:
    """For each lag all newer inputs as one context, as long as these are few enough."""
    most = len(search.experts.targets) // _ROWS_OF_A_JOINT_CONTEXT
    newer: Tensor | None = None
    for lag, codes in enumerate(search.codes):
        yield None if newer is None else Contexts(newer, search.known[-1].alone.foretold)
        if lag == 0 or newer is not None:
            newer = dense(codes if newer is None else paired(newer, codes))
            if int(newer.max()) + 1 > most:
                newer = None


def _complete(search: _Search) -> None:
    """Add newer inputs that say something only where an older one is known."""
    for _ in range(_ROUNDS):
        more = next((lag for lag in search.rest() if search.tells_alone(lag)), None)
        if more is None or len(search.steps) >= _MOST_LAGS:
            break
        search.insert(_Step(more))


def _together(search: _Search, counted: dict[int, Tensor]) -> float:
    """What inputs that were not chosen hold between them, in nats per row; 0 if chance may give as much."""
    both = torch.stack([*counted.values()]).sum(0)  # draws are the same for all
    chance, deviation = float(both[1:].mean()), float(both[1:].std())
    if not search.independent and float(both[0]) > chance:
        some = [*counted][:: max(1, len(counted) // _INFLATIONS)]
        alone = search.known[-1].alone
        inflation = sum(alone.inflation(search.codes[lag]) for lag in some) / len(some)
        chance, deviation = chance * inflation, deviation * inflation
    excess = float(both[0]) - chance
    enough = excess > _FAR_DEVIATIONS * deviation and (search.independent or excess > chance / 2)
    return excess if enough else 0.0


def _may_matter(search: _Search, judged: dict[int, Information]) -> bool:
    """Whether inputs that were not chosen, told all at once, might spare 1 % of what is told on held-out rows."""
    excess = {lag: 1 - info.chance / info.nats for lag, info in judged.items() if info.nats > info.chance}
    most = sorted(excess, key=lambda lag: excess[lag], reverse=True)[:_MOST_TOGETHER]
    shares = search.experts.told_together(
        search.known[-1].forecast, [search.codes[lag] for lag in most], [excess[lag] for lag in most]
    )
    left = search.left()
    spared = left[-1] - search.experts.loss(shares)
    might = float(spared.mean() + _UNSURE_DEVIATIONS * spared.std() / len(spared) ** 0.5)
    return might > _LITTLE * float((left[0] - left[-1]).mean())
