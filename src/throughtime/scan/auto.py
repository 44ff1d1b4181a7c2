"""Which scan runs, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.scan.checkpoint import checkpoint
from throughtime.scan.chunkwise import chunkwise, chunkwise_obstacle
from throughtime.scan.compiled import compiled, compiled_obstacle
from throughtime.scan.contract import ScanCell, State
from throughtime.scan.diagonal import diagonal, diagonal_obstacle
from throughtime.scan.fused import fused, obstacle
from throughtime.scan.loop import loop
from throughtime.scan.mixed import mixed, mixed_obstacle

__all__ = ["Choice", "OBSTACLES", "SCANS", "choose", "run"]

SCANS = ("auto", "checkpoint", "chunkwise", "compiled", "diagonal", "fused", "loop", "mixed")
"""By name: "auto" is the fastest of the others that gives the equations' numbers; "checkpoint" is "auto" segment by
segment, in memory that grows as the square root of T; "mixed" computes an LSTM's training pass in mixed precision, and
is "auto" wherever it cannot."""

OBSTACLES: dict[str, Callable[[ScanCell, Tensor], str | None]] = {
    "chunkwise": chunkwise_obstacle,
    "compiled": compiled_obstacle,
    "diagonal": diagonal_obstacle,
    "fused": obstacle,
}
"""Why a scan that does not serve every cell cannot run one on an input, or None if it can."""

_SMALL_LSTM, _LARGE_LSTM, _WHOLE_VECTORS = 128, 512, 16
"""Up to so many units the compiled LSTM was faster than torch's wherever both were tried; up to so many where it has several
rows, each of whole vectors; beyond, it was not tried, and reads its weights from memory more often."""


@dataclass(frozen=True)
class Choice:
    """What "auto" picks.

    Attributes:
        scan: "chunkwise", "compiled", "diagonal", "fused" or "loop".
        reason: one clause that says why.
    """

    scan: str
    reason: str


def choose(cell: ScanCell, x: Tensor, *, cut: bool = False) -> Choice:
    """What `scan="auto"` picks for `cell` on an input such as x (T, B, I): its device, dtype and emptiness count.

    Args:
        cell: whose steps to run.
        x: (T, B, I).
        cut: whether there are resets or lengths, for which torch's kernel has to sort the rows into pieces.
    """
    no_compiled, no_fused = compiled_obstacle(cell, x), obstacle(cell, x)
    if no_compiled is None and not (no_fused is None and _fused_is_faster(cell, x, cut)):
        assert cell.kernel is not None
        return Choice("compiled", f"the compiled loop '{cell.kernel.name}' computes these equations")
    if no_fused is None:
        return Choice("fused", f"torch.{cell.torch_kernel} computes these equations in one call on device '{x.device}'")
    if diagonal_obstacle(cell, x) is None:
        return Choice("diagonal", "all steps of a linear recurrence are joined at once")
    if chunkwise_obstacle(cell, x) is None:
        return Choice("chunkwise", "whole chunks of steps are products of matrices")
    return Choice("loop", f"{no_fused}; {no_compiled}" if cell.torch_kernel else str(no_compiled))


def run(
    scan: str,
    cell: ScanCell,
    x: Tensor,
    state: State,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Run `cell` along time by the scan of that name.

    Args:
        scan: one of `SCANS`.
        cell: whose steps to run.
        x: (T, B, I), not yet projected.
        state: before the first step; each tensor (B, ...).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, ...).

    Raises:
        InputError: if `scan` names one that cannot run here; "auto" takes another instead.
    """
    if scan == "checkpoint":
        return checkpoint(cell, x, state, reset, lengths, inner=partial(run, "auto"))
    if scan == "mixed":
        if mixed_obstacle(cell, x, reset, lengths) is None:
            return mixed(cell, x, state)
        scan = "auto"
    if scan in OBSTACLES and x.numel():
        reason = OBSTACLES[scan](cell, x)
        if reason is not None:
            raise InputError(f"scan='{scan}' cannot run: {reason}; use scan='auto' or scan='loop'")
    if scan == "auto" or not x.numel():
        scan = choose(cell, x, cut=reset is not None or lengths is not None).scan
    if scan == "fused":
        return fused(cell, x, state, reset, lengths)
    if lengths is not None:
        # What lies beyond a length must not reach a gradient, not even as 0 * NaN.
        beyond = torch.arange(x.size(0), device=x.device).unsqueeze(1) >= lengths
        x = x.masked_fill(beyond.unsqueeze(2), 0)
    if scan == "compiled":
        return compiled(cell, x, state, reset, lengths)
    if scan == "diagonal":
        return diagonal(cell, cell.project(x), state, reset, lengths)
    if scan == "chunkwise":
        return chunkwise(cell, cell.project(x), state, reset, lengths)
    return loop(cell, cell.project(x), state, reset, lengths)


def _fused_is_faster(cell: ScanCell, x: Tensor, cut: bool) -> bool:
    units = cell.output_size
    if cell.torch_kernel != "lstm" or cut or units <= _SMALL_LSTM:
        return False
    return units > _LARGE_LSTM or units % _WHOLE_VECTORS != 0 or x.size(1) == 1
