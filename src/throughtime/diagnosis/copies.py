"""Whether the target is one of the inputs: which, and how many steps away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.diagnosis.losses import IGNORED

__all__ = ["Copy", "as_ids", "copied_at_end", "copied_steps", "nearly_copied"]

_MATCHED = 0.98
"""Of a sequence's positions: the rest may be marked as ignored by a value of the user's own."""
_SEQUENCES = 0.5
"""Of the sequences; fewer may have had their target altered on purpose, as in denoising."""
_UNMATCHED = 0.7
"""Of the positions of the other sequences: where a target is nearly its input (denoising, correction), more match."""
_EXACT = 1e-4
"""Largest difference, relative to the target's standard deviation: the round-off of a float32 that was scaled."""
_SAME = 1 - 1e-6
"""Squared correlation from which a quantity is an input in another scale."""
_SHOWN = 0.3
"""Of words that are to be told, those that the model is shown: masked language models show a tenth on purpose."""
_FEWEST_POSITIONS = 4
_FEWEST_TO_FIT = 16
"""Positions: a scale and an offset fit two of them exactly."""
_FEWEST_SEQUENCES = 8
"""With one target each: fewer agree by chance."""
_FARTHEST = 16
"""Steps ahead that are looked at: forecasts look one or a few steps ahead."""
_MOST_FEATURES = 256
_NEARLY = 0.98
"""Squared correlation, beyond the target's own past, of an input that is the target but for a little noise."""
_PAST = 3
"""Steps of it."""
_MOST_CLASSES = 64


@dataclass(frozen=True)
class Copy:
    """Where in the inputs the target stands.

    Attributes:
        offset: the target of step t is the input of step t + offset.
        feature: which of the features, the first of them; None for ids.
        share: of the sequences in which it does.
        whole: whether the target has all that the input has.
    """

    offset: int
    feature: int | None
    share: float
    whole: bool


def nearly_copied(x: Tensor, y: Tensor, valid: Tensor) -> Copy | None:
    """Of a forecast of one of the inputs, another input that is its target already, but for a little noise.

    Neighbouring values of a smooth series are alike too, so what counts is what the input says of the target beyond the
    target's own past.

    Args:
        x: (T, B, F) numbers.
        y: (T, B) or (T, B, 1) quantities.
        valid: (T, B) bool.
    """
    y = y.squeeze(-1) if y.dim() == 3 else y
    if x.dim() != 3 or not x.is_floating_point() or y.dim() != 2 or not y.is_floating_point():
        return None
    kept = torch.stack([valid[lag : y.size(0) - _PAST + lag] for lag in range(_PAST + 1)]).all(0)
    if int(kept.sum()) < _FEWEST_TO_FIT * _PAST or x.size(-1) > _MOST_FEATURES:
        return None
    past = [y[_PAST - lag : y.size(0) - lag][kept].double() for lag in range(1, _PAST + 1)]
    known = torch.stack([torch.ones_like(past[0]), *past], dim=1)
    given = torch.cat([x[_PAST:][kept].double(), y[_PAST:][kept].double().unsqueeze(1)], dim=1)  # (N, F + 1)
    rest = given - known @ torch.linalg.lstsq(known, given, driver="gelsd").solution
    whole, beyond = (_shares_explained(part - part.mean(0)) for part in (given, rest))
    least = torch.minimum(whole, beyond)
    best = int(least.argmax())
    return Copy(0, best, 1.0, False) if least[best] >= _NEARLY else None


def _shares_explained(columns: Tensor) -> Tensor:
    """(F,) squared correlation of each column but the last with the last."""
    target = columns[:, -1:]
    squares = columns[:, :-1].square().sum(0) * target.square().sum()
    return (columns[:, :-1] * target).sum(0).square() / squares.clamp(min=1e-300)


def as_ids(x: Tensor) -> Tensor:
    """Inputs (T, B, ...): one-hot codes as the ids that they code, all others as they are."""
    if x.is_floating_point() and x.dim() == 3 and x.size(-1) > 1:
        ones = x == 1
        if bool(((x == 0) | ones).all()) and bool((ones.sum(-1) == 1).all()):
            return x.argmax(-1)
    return x


def copied_steps(x: Tensor, y: Tensor, valid: Tensor) -> Copy | None:
    """Of targets of every step, the nearest step whose input is the target.

    Args:
        x: (T, B) ids or (T, B, F).
        y: (T, B) classes or (T, B) or (T, B, C) quantities.
        valid: (T, B) bool.

    Returns:
        The copy, or None where there is none.
    """
    num_steps = x.size(0)
    x, y = as_ids(x), as_ids(y)
    counted = valid & (y != IGNORED if not y.is_floating_point() and y.dim() == 2 else torch.ones_like(valid))
    hidden = _in_part(x, y, counted, valid)
    if hidden is not None:
        return hidden
    for offset in (0, *range(1, min(_FARTHEST, num_steps // 2) + 1), -1):
        ahead, own = (
            (slice(offset, None), slice(0, num_steps - offset))
            if offset >= 0
            else (slice(0, offset), slice(-offset, None))
        )
        found = _copy(x[ahead], y[own], counted[own] & valid[ahead], offset)
        if found is not None:
            return found
    return None


def _in_part(x: Tensor, y: Tensor, counted: Tensor, valid: Tensor) -> Copy | None:
    """Of ids of which some are to be told, marked by the others' being ignored: those that were not hidden."""
    if x.is_floating_point() or x.shape != y.shape or y.is_floating_point():
        return None
    later = counted.flip(0).cumsum(0).flip(0) > 0
    if not bool((valid & ~counted & later).any()):
        return None  # nothing but padding is left out
    share = _excess((x == y)[counted], (x.roll(1, 1) == y)[counted])
    return Copy(0, None, share, True) if share >= _SHOWN else None


def _excess(match: Tensor, chance: Tensor) -> float:
    """The share of matches beyond that of chance."""
    by_chance = float(chance.double().mean()) if chance.numel() else 1.0
    return (float(match.double().mean()) - by_chance) / max(1 - by_chance, 1e-12) if match.numel() else 0.0


def _copy(x: Tensor, y: Tensor, counted: Tensor, offset: int) -> Copy | None:
    if not x.is_floating_point() and not y.is_floating_point():
        share = _share(x == y, y, counted) if x.shape == y.shape else 0.0
        return Copy(offset, None, share, True) if share else None
    if not x.is_floating_point():
        return None
    features = x.flatten(2).double() if x.dim() > 2 else x.double().unsqueeze(-1)
    if features.size(-1) > _MOST_FEATURES:
        return None
    if not y.is_floating_point():
        return _class_copy(features, y, counted, offset)
    channels = y.flatten(2).double() if y.dim() > 2 else y.double().unsqueeze(-1)
    matches = [_feature_of(features, channels[..., c], counted) for c in range(channels.size(-1))]
    kept = [match for match in matches if match is not None]
    if len(kept) < len(matches):
        return None
    different = {feature for feature, _ in kept}
    return Copy(offset, kept[0][0], min(share for _, share in kept), len(different) == features.size(-1))


def _class_copy(features: Tensor, y: Tensor, counted: Tensor, offset: int) -> Copy | None:
    """Classes that stand in a feature as numbers, or in several as a one-hot code."""
    if y.dim() != 2:
        return None
    for feature in range(features.size(-1)):
        share = _share(features[..., feature] == y, y, counted)
        if share:
            return Copy(offset, feature, share, features.size(-1) == 1)
    kinds = torch.unique(y[counted])
    if not 2 <= kinds.numel() <= _MOST_CLASSES:
        return None
    columns = features[counted]  # (N, F)
    codes = (y[counted].unsqueeze(-1) == kinds).double()
    different = (
        (columns.unsqueeze(1) != codes.unsqueeze(-1)).double().mean(0)
        if columns.size(0) * codes.size(1) * columns.size(1) < 1 << 24
        else None
    )
    if different is None or bool((different.amin(1) > 0).any()):
        return None
    return Copy(offset, int(different.argmin(1)[0]), 1.0, False)


def _feature_of(features: Tensor, channel: Tensor, counted: Tensor) -> tuple[int, float] | None:
    """The feature that a channel of the target is, exactly or in another scale, and in which share of the sequences."""
    spread = channel[counted].std() if int(counted.sum()) > 1 else torch.tensor(0.0)
    if not float(spread) > 0:
        return None
    for feature in range(features.size(-1)):
        share = _share((features[..., feature] - channel).abs() <= _EXACT * spread, channel, counted)
        if share:
            return feature, share
    if int(counted.sum()) < _FEWEST_TO_FIT:
        return None
    target = channel[counted] - channel[counted].mean()
    columns = features[counted] - features[counted].mean(0)
    explained = (columns * target.unsqueeze(-1)).sum(0).square()
    correlation = explained / (columns.square().sum(0) * target.square().sum()).clamp(min=1e-300)
    best = int(correlation.argmax())
    return (best, 1.0) if correlation[best] > _SAME else None


def _share(same: Tensor, y: Tensor, counted: Tensor) -> float:
    """Of the sequences, those in which the target is the input; 0 where they are too few to mean anything."""
    varies = torch.tensor([torch.unique(y[counted[:, b], b]).numel() > 1 for b in range(y.size(1))])
    enough = (counted.sum(0) >= min(_FEWEST_POSITIONS, counted.size(0))) & varies
    if not bool(enough.any()):
        return 0.0
    match = ((same & counted).sum(0) / counted.sum(0).clamp(min=1))[enough]
    matched = match >= _MATCHED
    share = float(matched.double().mean())
    others = match[~matched]
    if share < _SEQUENCES or (others.numel() and float(others.median()) > _UNMATCHED):
        return 0.0
    return share


def copied_at_end(x: Tensor, y: Tensor, last: Tensor) -> tuple[str, Copy] | None:
    """Of one target for each sequence: whether it stands in the inputs of every step, the last one, or the middle one.

    Args:
        x: (T, B) ids or (T, B, F).
        y: (B,) classes or quantities, or (B, C) quantities.
        last: (B,) the last step of each.

    Returns:
        "always", "last" or "middle", and the copy; None where there is none.
    """
    num_steps, batch = x.shape[:2]
    if batch < _FEWEST_SEQUENCES:
        return None
    x, y = as_ids(x), y.squeeze(-1) if y.dim() == 2 and y.size(-1) == 1 else y
    rows = torch.arange(batch)
    final = _row_copy(x[last, rows], y)
    if final is not None and x.is_floating_point():
        columns = x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)
        if final.feature is not None and bool((columns[..., final.feature] == columns[:1, :, final.feature]).all()):
            return "always", final
    if final is not None:
        return "last", final
    if num_steps % 2 and num_steps > 1:
        middle = _middle_copy(x[num_steps // 2], y)
        if middle is not None:
            return "middle", middle
    return None


def _middle_copy(x: Tensor, y: Tensor) -> Copy | None:
    """Of ids, it is enough that the word in the middle is shown too often."""
    if not x.is_floating_point() and not y.is_floating_point() and x.shape == y.shape:
        share = _excess(x == y, x.roll(1, 0) == y)
        return Copy(0, None, share, True) if share >= _SHOWN else None
    return _row_copy(x, y)


def _row_copy(x: Tensor, y: Tensor) -> Copy | None:
    """Of one step of each sequence, x (B, ...), as if the sequences were the steps of one: all of them must match."""
    return _copy(x.unsqueeze(1), y.unsqueeze(1), torch.ones(x.size(0), 1, dtype=torch.bool), 0)
