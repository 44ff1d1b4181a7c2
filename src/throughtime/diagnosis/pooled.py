"""The examples that the need is measured on: the batch at hand, with validation data and further batches behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.diagnosis.case import Case, Missing
from throughtime.errors import InputError
from throughtime.measurement.arguments import opened
from throughtime.measurement.probe import Axes, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["Examples", "of_need"]

_ENOUGH_SEQUENCES, _ENOUGH_NUMBERS = 512, 1 << 24
"""Of which no further batch is taken: so many show a dependence that explains some per cent."""
_MOST_BATCHES, _MOST_OTHERS = 512, 32
"""So many are looked at, and so many that hold nothing new, or what is not finite, or have another form."""


class Examples(NamedTuple):
    """Sequences and what is wanted of them.

    Attributes:
        inputs: (T, B, ...) or (B, T, ...), as the axes say.
        targets: of the steps, lying like the inputs, or (B, ...).
        lengths: (B,), or None.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None

    def axis_of_targets(self, axes: Axes) -> int:
        """That of the sequences in the targets."""
        of_steps = self.targets.dim() > 1 and tuple(self.targets.shape[:2]) == tuple(self.inputs.shape[:2])
        return axes.batch if of_steps else 0


def of_need(case: Case, x: Tensor, axes: Axes) -> Examples:
    """Those of the batch, with those of the validation data and of further batches behind where they fit.

    Of further batches as many are taken as are enough, and no sequence that is there already: what is drawn again says
    nothing more.

    Args:
        case: whose data it is.
        x: its first input tensor.
        axes: where time and the sequences lie in it.

    Raises:
        Missing: if the targets are no tensor.
    """
    if not isinstance(case.targets, Tensor):
        raise Missing("targets that are a tensor")
    lengths = None if case.lengths is None else torch.as_tensor(case.lengths).cpu()
    parts = [Examples(x, case.targets, lengths)]
    validation = None if case.validation is None else _alike(case, parts[0], *case.validation, axes)
    if validation is not None:
        parts.append(validation)
    if case.more:
        with left_as_found(case.model):  # a stream of the user's may draw from the global random state
            parts += list(_further(case, parts, axes))
    return _together(parts, axes)


def _further(case: Case, parts: list[Examples], axes: Axes) -> Iterator[Examples]:
    """The new sequences of further batches, until there are enough."""
    seen = {name for part in parts for name in _names(part.inputs, axes)}
    numbers, others = sum(part.inputs.numel() for part in parts), 0
    batches = islice(case.more, _MOST_BATCHES)
    while len(seen) < _ENOUGH_SEQUENCES and numbers < _ENOUGH_NUMBERS and others < _MOST_OTHERS:
        batch = next(batches, None)
        if batch is None:
            return
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise InputError(f"more must be batches (inputs, targets), not of {type(batch).__name__}")
        part = _alike(case, parts[0], *batch, axes)
        names = [] if part is None or not _is_finite(part) else _names(part.inputs, axes)
        new = {name: row for row, name in enumerate(names) if name not in seen}
        if part is None or not new:
            others += 1
            continue
        seen |= new.keys()
        numbers += part.inputs.numel()
        yield _chosen(part, torch.tensor(sorted(new.values())), axes)


def _is_finite(part: Examples) -> bool:
    return bool(torch.isfinite(part.inputs).all()) and bool(torch.isfinite(part.targets).all())


def _names(x: Tensor, axes: Axes) -> list[bytes]:
    """What tells each sequence from others."""
    rows = x.detach().movedim(axes.batch, 0).contiguous().cpu()
    return [hashlib.blake2b(row.flatten().view(torch.uint8).numpy().tobytes()).digest() for row in rows]


def _chosen(part: Examples, rows: Tensor, axes: Axes) -> Examples:
    def of(tensor: Tensor, axis: int) -> Tensor:
        return tensor.index_select(axis, rows.to(tensor.device))

    lengths = None if part.lengths is None else of(part.lengths, 0)
    return Examples(of(part.inputs, axes.batch), of(part.targets, part.axis_of_targets(axes)), lengths)


def _alike(case: Case, first: Examples, inputs: Any, targets: Any, axes: Axes) -> Examples | None:
    """What is called and wanted of other sequences; None where they have not the form of the first.

    Where lengths are known they may have another number of steps.
    """
    x, lengths = first_tensor(inputs), None
    free = {axes.batch}
    if first.lengths is not None:
        lengths = _lengths_among(case.inputs, inputs, first.lengths)
        if lengths is None or first.targets.dim() > 1:
            return None
        free.add(axes.time)
    if not (_same_but(x, first.inputs, free) and _same_but(targets, first.targets, {first.axis_of_targets(axes)})):
        return None
    return Examples(x, targets, None if lengths is None else lengths.cpu())


def _together(parts: list[Examples], axes: Axes) -> Examples:
    """As one, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.inputs.size(axes.time) for part in parts)
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Examples(
        torch.cat([_padded(part.inputs, axes.time, longest) for part in parts], axes.batch),
        torch.cat([part.targets for part in parts], parts[0].axis_of_targets(axes)),
        torch.cat(lengths) if lengths else None,
    )


def _same_but(one: Any, other: Tensor, free: set[int]) -> bool:
    """Whether they differ in nothing but the size of some axes."""
    if not isinstance(one, Tensor) or one.dim() != other.dim() or one.dtype != other.dtype:
        return False
    return all(a == b for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if axis not in free)


def _lengths_among(inputs: Any, others: Any, lengths: Tensor) -> Tensor | None:
    """What stands in other inputs where these have the lengths of their sequences."""
    inputs, others = opened(inputs), opened(others)
    pairs = inputs.items() if isinstance(inputs, dict) else enumerate(inputs) if isinstance(inputs, tuple) else ()
    for key, value in pairs:
        if isinstance(value, Tensor) and value.shape == lengths.shape and torch.equal(value.cpu(), lengths):
            found = others[key]
            return found if isinstance(found, Tensor) else None
    return None


def _padded(x: Tensor, time: int, steps: int) -> Tensor:
    """With zeros behind, up to so many steps."""
    shape = list(x.shape)
    shape[time] = steps - x.size(time)
    return torch.cat([x, x.new_zeros(shape)], time)
