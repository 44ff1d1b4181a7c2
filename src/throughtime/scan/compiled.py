"""The compiled scan: a loop in C++ for each cell, forward and backward, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.kernels import CompiledLinear, absence, library, scan
from throughtime.scan.contract import ScanCell, State

__all__ = ["compiled", "compiled_obstacle"]


def compiled_obstacle(cell: ScanCell, x: Tensor) -> str | None:
    """Why `compiled` cannot run `cell` on an input such as `x`, or None if it can."""
    if cell.kernel is None:
        return f"there is no compiled loop for {type(cell).__name__}"
    found = library()
    if found is None:
        return f"the compiled library is not there: {absence()}"
    if cell.kernel.name not in found.loops:
        return f"the compiled library has no loop '{cell.kernel.name}'"
    if x.device.type != "cpu":
        return f"the compiled loops run on the CPU, not on device '{x.device.type}'"
    if x.dtype not in (torch.float32, torch.float64):
        return f"the compiled loops compute in float32 and float64, not in {x.dtype}"
    if torch.is_autocast_enabled("cpu"):
        return "the compiled loops do not follow autocast's rules"
    return None if x.numel() else "there is no step to run"


def compiled(
    cell: ScanCell, x: Tensor, state: State, reset: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """Run `cell` by its compiled loop; the caller has seen that `compiled_obstacle` is None.

    Each thread takes its own rows of the batch through all the steps, so nothing waits for anything on the way. There
    is no gradient of the gradient: asking for one is an error that says so.

    Args:
        cell: whose equations to run.
        x: (T, B, I), not yet projected.
        state: before the first step; each tensor (B, H).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.

    Returns:
        The outputs (T, B, H) and the final state, each tensor (B, H).
    """
    spec = cell.kernel
    assert spec is not None
    projected = _project(cell, x)
    fresh = () if reset is None else cell.initial_state(x.size(1), device=x.device, dtype=projected.dtype)
    return scan(
        spec.name,
        spec.constants,
        projected,
        state,
        cell.kernel_weights(),
        fresh=fresh,
        reset=reset,
        lengths=lengths,
    )


def _project(cell: ScanCell, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # which has products of its own
        return cell.project(x)
    with CompiledLinear():
        return cell.project(x)
