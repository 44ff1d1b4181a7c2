"""Which scan runs, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.scan.contract import ScanCell, State
from throughtime.scan.fused import fused, obstacle
from throughtime.scan.loop import loop
from throughtime.scan.mixed import mixed, mixed_obstacle

__all__ = ["Choice", "SCANS", "choose", "run"]

SCANS = ("auto", "fused", "loop", "mixed")
"""By name: "auto" is "fused" where that gives the equations' numbers and else "loop"; "mixed" computes an LSTM's
training pass in mixed precision, and is "auto" wherever it cannot."""


@dataclass(frozen=True)
class Choice:
    """What "auto" picks.

    Attributes:
        scan: "fused" or "loop".
        reason: one clause that says why.
    """

    scan: str
    reason: str


def choose(cell: ScanCell, x: Tensor) -> Choice:
    """What `scan="auto"` picks for `cell` on an input such as x (T, B, I): its device, dtype and emptiness count."""
    reason = obstacle(cell, x)
    if reason is not None:
        return Choice("loop", reason)
    return Choice("fused", f"torch.{cell.torch_kernel} computes these equations in one call on device '{x.device}'")


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
        InputError: if `scan` is "fused" and that cannot run here; "auto" takes the loop instead.
    """
    if scan == "mixed" and mixed_obstacle(cell, x, reset, lengths) is None:
        return mixed(cell, x, state)
    if scan != "loop":
        reason = obstacle(cell, x)
        if reason is None:
            return fused(cell, x, state, reset, lengths)
        if scan == "fused" and x.numel():
            raise InputError(f"scan='fused' cannot run: {reason}; use scan='auto' or scan='loop'")
    if lengths is not None:
        # What lies beyond a length must not reach a gradient, not even as 0 * NaN.
        beyond = torch.arange(x.size(0), device=x.device).unsqueeze(1) >= lengths
        x = x.masked_fill(beyond.unsqueeze(2), 0)
    return loop(cell, cell.project(x), state, reset, lengths)
