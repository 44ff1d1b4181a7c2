"""The chunkwise scan: cells whose state is a matrix, run by products of matrices instead of step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.scan.chunks import Chunks, cut_into_chunks
from throughtime.scan.chunkwise_delta import delta
from throughtime.scan.chunkwise_normalised import normalised
from throughtime.scan.contract import ScanCell, State

__all__ = ["chunkwise", "chunkwise_obstacle"]

_RULES: dict[str, Callable[[Any, Tensor, State, Chunks], tuple[Tensor, State]]] = {
    "delta": delta,
    "normalised": normalised,
}
"""By the name that a cell bears as `matrix_rule`; each takes a cell that follows the protocol beside it."""


def chunkwise_obstacle(cell: ScanCell, x: Tensor) -> str | None:
    """Why `chunkwise` cannot run `cell` on an input such as `x`, or None if it can."""
    rule = cell.matrix_rule
    if rule is None:
        return f"{type(cell).__name__} has no matrix state that whole chunks of steps could update"
    if rule not in _RULES:
        return f"matrix_rule '{rule}' of {type(cell).__name__} is none of {', '.join(_RULES)}"
    if x.dtype not in (torch.float32, torch.float64):
        return f"the chunkwise form is computed in float32 and float64, not in {x.dtype}"
    if torch.is_autocast_enabled(x.device.type):
        return "the chunkwise form does not follow autocast's rules"
    return None if x.numel() else "there is no step to run"


def chunkwise(
    cell: ScanCell, projected: Tensor, state: State, reset: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """Run `cell` chunk by chunk; the caller has seen that `chunkwise_obstacle` is None.

    All steps of all chunks are computed at once by products of matrices, but for the state between chunks, which takes
    a loop over T / 64 chunks. It has gradients of any order. Where a row holds a NaN, its outputs may be NaN from the
    beginning of that chunk on, not from that step on as in the loop; other rows never are.

    *References*: Beck et al. 2024, arXiv:2405.04517, appendix A (normalised); Yang, Wang, Zhang, Shen & Kim 2024,
    *Parallelizing linear transformers with the delta rule over sequence length*, arXiv:2406.06484 (delta).

    Args:
        cell: whose equations to run; by its `matrix_rule`, "normalised" or "delta", it follows
            `throughtime.scan.chunkwise_normalised.NormalisedCell` or `throughtime.scan.chunkwise_delta.DeltaCell`.
        projected: (T, B, G), from `cell.project`.
        state: before the first step; each tensor (B, heads, ...).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, heads, ...).

    Raises:
        InputError: if `cell` has no `matrix_rule` that is known.
    """
    rule = _RULES.get(cell.matrix_rule or "")
    if rule is None:
        raise InputError(f"scan='chunkwise' cannot run: {chunkwise_obstacle(cell, projected)}; use scan='auto'")
    chunks = cut_into_chunks(projected.size(0), projected.size(1), projected.device, reset, lengths)
    outputs, final = rule(cell, chunks.pad(projected), state, chunks)
    return chunks.trim(outputs), final
