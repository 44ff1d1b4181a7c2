"""What `need` learns from: inputs and targets with time first, the rows that count, and targets as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.dependence import commonest

__all__ = [
    "MOST_ROWS",
    "Rows",
    "coded_targets",
    "products_of",
    "rows_of",
    "rows_that_count",
    "time_first",
    "values_first",
]

_DEFAULT_MAX_LAG = 256
_MOST_CLASSES = 32
_MOST_FACTORS = 4
"""Values of a target whose products are asked too."""
_IGNORED = -100
MOST_ROWS = 4000


def values_first(inputs: Tensor, time_dim: int) -> Tensor:
    """Inputs as (T, B) ids or (T, B, I) numbers: one number a step gets an axis of its own, and several are no ids."""
    x = inputs.detach().cpu().movedim(time_dim, 0)
    x = x.flatten(2) if x.dim() > 3 else x  # a picture a step
    if x.is_floating_point() and x.dim() == 2:
        return x.unsqueeze(-1)
    return x.double() if not x.is_floating_point() and x.dim() > 2 else x


def time_first(inputs: Tensor, targets: Tensor | None, time_dim: int | None) -> tuple[Tensor, Tensor, bool]:
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


@dataclass(frozen=True)
class Rows:
    """Targets that count, and how far back the inputs before them are asked.

    Attributes:
        counted: (T, B) where there is one.
        whole: whether each is of a whole sequence, and stands at its end.
        longest: the longest lag that enough of them have.
    """

    counted: Tensor
    whole: bool
    longest: int

    def reaching(self, lag: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Positions (N,) of targets that have so many steps before them, and the sequence of each; at most so many."""
        rows, steps = self.counted[lag:].t().nonzero(as_tuple=True)  # sequence after sequence
        steps = steps + lag
        if self.whole or steps.numel() > most:
            chosen = torch.randperm(steps.numel(), generator=generator)[:most].sort().values
            steps, rows = steps[chosen], rows[chosen]
        return steps, rows


def rows_that_count(
    x: Tensor, y: Tensor, whole: bool, lengths: Tensor | Sequence[int] | None, max_lag: int | None
) -> Rows:
    """Of inputs (T, B, ...) and their targets: those that are not ignored, nor beyond the end of a sequence."""
    num_steps, batch = x.shape[:2]
    ends = torch.full((batch,), num_steps) if lengths is None else torch.as_tensor(lengths).cpu().long()
    if ends.shape != (batch,) or int(ends.min()) < 1 or int(ends.max()) > num_steps:
        raise InputError(f"lengths must be {batch} numbers from 1 to {num_steps}, one for each sequence")
    steps = torch.arange(num_steps).unsqueeze(1)
    if whole:
        longest = int(ends.min()) - 1
        of_sequences = _counted(y).view(batch, -1)[:, 0]
        return Rows(of_sequences & (steps == ends - 1), True, longest if max_lag is None else min(max_lag, longest))
    counted = _counted(y) & (steps < ends)
    first = int(counted.any(1).nonzero()[0]) if bool(counted.any()) else 0
    usual = int(ends.median())
    longest = min(usual - 1, max(usual * 3 // 4, first), max_lag or _DEFAULT_MAX_LAG)
    return Rows(counted, False, longest)


def rows_of(
    x: Tensor,
    y: Tensor,
    whole: bool,
    lengths: Tensor | Sequence[int] | None,
    max_lag: int | None,
    most: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, int]:
    """Positions (N,) whose target counts, the sequence of each, and the longest lag that all of them have.

    At most `most` of them; unless given 4000.
    """
    rows = rows_that_count(x, y, whole, lengths, max_lag)
    return *rows.reaching(rows.longest, MOST_ROWS if most is None else most, generator), rows.longest


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


def products_of(y: Tensor) -> Tensor | None:
    """(N, C) quantities as `coded_targets` gives them: (N, P), the products of two of each; None where C is not 2 to 4.

    What was done and what it brought, say, are told by nothing alone, and yet which goes with which is.
    """
    count = y.size(1)
    if not 2 <= count <= _MOST_FACTORS:
        return None
    products = torch.stack([y[:, i] * y[:, j] for i in range(count) for j in range(i)], 1)
    return (products - products.mean(0)) / products.std(0).clamp(min=1e-12)
