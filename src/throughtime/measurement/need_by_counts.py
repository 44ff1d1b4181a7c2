"""How far back ids are needed to tell classes, by conditional mutual information from counts.

From the newest input on, one lag after another: does the input there say more about the target, where what the newer
ones told is known, than chance does? What they told is a context: rows are grouped by the inputs that were found to
matter, those that are too rare by fewer of them; and where these are more groups than the rows can fill, those that
foretell alike become one (an information bottleneck). Nothing is lost by that as long as they do foretell alike: if q
holds all that the newer inputs say about y, I(y; x | q) <= I(y; x | newer inputs).

While all of the newest inputs together, whether they matter or not, are few enough contexts, they are conditioned upon
too: of two bits whose exclusive or is asked for, neither tells anything alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.measurement.counts import Contexts, Information, coded, dense, merged, paired
from throughtime.measurement.need_told import Told

__all__ = ["told_by_counts"]

_LEVEL = 0.01
_FEWEST_OF_A_CELL = 10
_ROWS_OF_A_GROUP = 60
_FEWEST_GROUPS, _MOST_GROUPS = 16, 128
_ROWS_OF_A_JOINT_CONTEXT = 20
_MUCH_MORE = 1.5
"""All of the newer inputs are taken together if that shows so many times the information."""
_MOST_LAGS = 32
_ROUNDS = 4
_FAR_DEVIATIONS = 3
_BEYOND_DOUBT, _BEYOND_ANY_DOUBT = 1e-3, 1e-6
"""Of the level: what is so improbable is looked into, or even counted, though it is less than twice chance."""
_LITTLE = 0.01
"""Of what is told; older inputs that hold less than that between them do not count."""


@dataclass(frozen=True)
class _Step:
    """An input that was found to matter: given those before it, or together with all of the newer ones."""

    lag: int
    with_newer: bool = False


@dataclass(frozen=True)
class _Chain:
    """What is told by one input after another.

    Attributes:
        ids: (K, N) the inputs at each lag.
        codes: (K, N) the same as few codes.
        target: (N,) classes from 0 on.
        seed: of the rotations.
        independent: whether each row is of a sequence of its own.
    """

    ids: Tensor
    codes: Tensor
    target: Tensor
    seed: int
    independent: bool

    @property
    def level(self) -> float:
        """At which each lag is judged."""
        return _LEVEL / len(self.ids)

    def tells(self, info: Information) -> bool:
        """Whether that is more than chance.

        Where rows follow one another, targets that were turned round do not quite show what chance is: how long an id
        is kept, say, depends on the targets themselves. Then it has to be twice of it, as Akaike's criterion asks for,
        or beyond any doubt.
        """
        enough = self.independent or info.nats > 2 * info.chance
        return info.probability < (self.level if enough else self.level * _BEYOND_ANY_DOUBT)

    def contexts(self, groups: Tensor) -> Contexts:
        """Rows in these groups."""
        return Contexts(groups, self.target, self.seed)

    def after(self, steps: list[_Step]) -> Tensor:
        """(N,) what is known once these inputs are."""
        groups = torch.zeros_like(self.target)
        for step in steps:
            groups = self.with_step(groups, step)
        return groups

    def with_step(self, groups: Tensor, step: _Step) -> Tensor:
        """(N,) what is known once this input is, too."""
        return self._known(self._cells(groups, step))

    def told(self, steps: list[_Step]) -> Tensor:
        """(len(steps) + 1, N) nats that are left in each row, chance taken off."""
        groups = torch.zeros_like(self.target)
        left = [self.contexts(groups).local(self.target)]
        for step in steps:
            contexts = self.contexts(groups)
            codes = self.joint(step.lag) if step.with_newer else self.codes[step.lag]
            found, local = contexts.information(codes), contexts.local(codes)
            more = min(found.adjusted, float(left[-1].mean()))
            scale = more / (found.nats - found.chance) if found.nats > found.chance else 0.0
            left.append(left[-1] - (local - found.chance) * scale)
            groups = self.with_step(groups, step)
        return torch.stack(left)

    def joint(self, longest: int) -> Tensor:
        """(N,) all inputs up to a lag, as one context."""
        groups = torch.zeros_like(self.target)
        for codes in self.codes[: longest + 1]:
            groups = dense(paired(groups, codes))
        return groups

    def _known(self, cells: Tensor) -> Tensor:
        most = min(max(self.target.numel() // _ROWS_OF_A_GROUP, _FEWEST_GROUPS), _MOST_GROUPS)
        return merged(cells, self.target, most)

    def _cells(self, groups: Tensor, step: _Step) -> Tensor:
        """(N,) a context and what an input adds: itself; where that is rare its code in a coarser one; or nothing."""
        if step.with_newer:
            return paired(groups, self.joint(step.lag))
        codes = self.codes[step.lag]
        exact, often = _with_counts(paired(groups, self.ids[step.lag]))
        fewer = max(groups.numel() // (_FEWEST_OF_A_CELL * (int(codes.max()) + 1)), 1)
        coarse, less_often = _with_counts(torch.where(often, -1, paired(merged(groups, self.target, fewer), codes)))
        of_codes = torch.where(less_often, exact.max() + 1 + coarse, exact.max() + coarse.max() + 2 + groups)
        return dense(torch.where(often, exact, of_codes))


def told_by_counts(ids: Tensor, targets: Tensor, seed: int, *, independent: bool) -> Told:
    """Which lags of ids say something about targets that newer ones do not, and how much.

    Args:
        ids: (K, N) the input at each lag, rows in the order of sequences and time.
        targets: (N,) classes.
        seed: of the rotations.
        independent: whether each row is of a sequence of its own.
    """
    ids = ids - ids.min()
    codes = torch.stack([dense(coded(each)) for each in ids])
    chain = _Chain(ids, codes, dense(coded(targets)), seed, independent)
    steps, contexts, counted = _completed(chain, *_found(chain))
    left = chain.told(steps)
    lags = tuple(step.lag for step in steps)
    older = {lag: each for lag, each in counted.items() if not lags or lag > lags[-1]}
    if not older:
        return Told(lags, left, 0.0)
    limits = torch.tensor([contexts.judged(each).detectable(chain.level) for each in older.values()])
    limit = float(limits.median())
    share = limit / float(left[0].mean())
    excess, total = _together(chain, contexts, [*older.values()]), float((left[0] - left[-1]).mean())
    if excess <= _LITTLE * total:
        return Told(lags, left, share)
    return Told(lags, left, share, True, int(ids.size(1) * limit / (excess / len(older))))


def _completed(
    chain: _Chain, steps: list[_Step], counted: dict[int, Tensor]
) -> tuple[list[_Step], Contexts, dict[int, Tensor]]:
    """With newer inputs that say something only where an older one is known.

    And the contexts of all of them, and what was counted in these of every other input that is not always the same.
    """
    for more_rounds in range(_ROUNDS, -1, -1):
        contexts = chain.contexts(chain.after(steps))
        chosen = {step.lag for step in steps}
        rest = [lag for lag in range(len(chain.ids)) if lag not in chosen and bool(chain.codes[lag].any())]
        counted = {lag: counted[lag] if lag in counted else contexts.counted(chain.codes[lag]) for lag in rest}
        more = [lag for lag in rest if chain.tells(contexts.judged(counted[lag]))]
        if not more or not more_rounds or len(steps) >= _MOST_LAGS:
            break
        steps, counted = sorted([*steps, _Step(more[0])], key=lambda step: step.lag), {}
    return steps, contexts, counted


def _together(chain: _Chain, contexts: Contexts, counted: list[Tensor]) -> float:
    """What inputs that were not chosen hold between them, in nats per row; 0 if chance may give as much."""
    judged = [contexts.judged(each) for each in counted]
    if not chain.independent and any(each.probability < chain.level * _BEYOND_DOUBT for each in judged):
        return sum(each.nats - each.chance for each in judged if each.probability < chain.level)
    fewest = min(each.numel() for each in counted)  # rotations are the same for all
    both = torch.stack([each[:fewest] for each in counted]).sum(0)
    chance = float(both[1:].mean())
    excess = float(both[0]) - chance
    enough = excess > _FAR_DEVIATIONS * float(both[1:].std()) and (chain.independent or excess > chance / 2)
    return excess if enough else 0.0


def _found(chain: _Chain) -> tuple[list[_Step], dict[int, Tensor]]:
    """From the newest on, the inputs that say more than chance does.

    And what was counted of those that are older than the last of them, whose contexts are those of all that were found.
    """
    num_rows = chain.target.numel()
    steps: list[_Step] = []
    known = torch.zeros_like(chain.target)
    contexts = chain.contexts(known)
    newer: Tensor | None = None
    counted: dict[int, Tensor] = {}
    for lag, codes in enumerate(chain.codes):
        step = _judged(chain, lag, contexts, newer, counted) if bool(codes.any()) else None
        if step is not None:
            steps.append(step)
            known = chain.with_step(known, step)
            contexts, counted = chain.contexts(known), {}
            if len(steps) == _MOST_LAGS:
                break
        if lag == 0 or newer is not None:
            newer = codes if newer is None else dense(paired(newer, codes))
            if int(newer.max()) + 1 > num_rows // _ROWS_OF_A_JOINT_CONTEXT:
                newer = None
    return steps, counted


def _judged(
    chain: _Chain, lag: int, contexts: Contexts, newer: Tensor | None, counted: dict[int, Tensor]
) -> _Step | None:
    """Whether an input says more than chance does: beyond what is known, or beyond all newer ones together."""
    counted[lag] = contexts.counted(chain.codes[lag])
    info = contexts.judged(counted[lag])
    found = chain.tells(info)
    if newer is not None:
        together = chain.contexts(newer).information(chain.codes[lag])
        if chain.tells(together) and (not found or together.adjusted > _MUCH_MORE * info.adjusted):
            return _Step(lag, with_newer=True)
    return _Step(lag) if found else None


def _with_counts(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) the labels from 0 on, and which of them enough rows have."""
    _, places, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return places, counts[places] >= _FEWEST_OF_A_CELL
