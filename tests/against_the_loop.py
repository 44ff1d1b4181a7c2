"""Any scan against the plain loop in float64: values, and the gradients by everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from throughtime.cell import Cell
from throughtime.scan import loop

__all__ = ["TOLERANCES", "assert_equal_to_the_float64_loop", "difference", "everything", "projecting", "reached_state"]

Scan = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of max |difference| / max |reference|."""


def projecting(scan: Scan) -> Scan:
    """A scan of what a cell projects, as one of the input itself."""
    return lambda cell, x, *others: scan(cell, cell.project(x), *others)


def difference(got: Tensor, reference: Tensor, scale: float) -> float:
    """max |difference| / max |reference|; of a single number, which may cancel to near zero, relative to `scale`."""
    own = reference.abs().max().item() if reference.numel() > 1 else scale
    return (got.double() - reference).abs().max().item() / (own or 1)


def reached_state(cell: Cell, batch: int) -> tuple[Tensor, ...]:
    """A state that random inputs lead to: not any numbers are one (sLSTM divides by a part that is positive)."""
    x = torch.randn(3, batch, cell.input_size, dtype=torch.float64)
    with torch.no_grad():
        return loop(cell, cell.project(x), cell.initial_state(batch))[1]


def everything(
    scan: Scan, cell: Cell, x: Tensor, state: tuple[Tensor, ...], reset: Any, lengths: Any, weight: Tensor
) -> list[Tensor]:
    """Outputs, final state, and the gradients of a weighted sum of both by inputs, initial state and parameters."""
    x = x.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in state)
    outputs, final = scan(cell, x, state, reset, lengths)
    total = (outputs * weight).sum() + sum((part * part).sum() for part in final)
    wanted = (x, *state, *cell.parameters())
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    # A gradient is None where nothing depends on the tensor, such as a state that every row resets.
    found = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)]
    return [outputs, *final, *found]


def assert_equal_to_the_float64_loop(
    scan: Scan,
    cell: Cell,
    num_steps: int,
    batch: int,
    dtype: torch.dtype = torch.float64,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
) -> None:
    """Compare `scan`, which takes the input itself, in `dtype`, on random input from a state that the cell reached."""
    cell = cell.double()
    x = torch.randn(num_steps, batch, cell.input_size, dtype=torch.float64)
    state = reached_state(cell, batch)
    weight = torch.randn(num_steps, batch, cell.output_size, dtype=torch.float64)
    reference = everything(projecting(loop), cell, x, state, reset, lengths, weight)
    cell = cell.to(dtype)
    got = everything(scan, cell, x.to(dtype), tuple(p.to(dtype) for p in state), reset, lengths, weight.to(dtype))
    scale = max(true.abs().max().item() for true in reference)
    worst = [difference(ours, true, scale) for ours, true in zip(got, reference, strict=True)]
    assert max(worst) < TOLERANCES[dtype], worst
