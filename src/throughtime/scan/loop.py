"""The plain loop over time: the truth that every other scan is compared with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from throughtime.scan.contract import ScanCell, State, restarted

__all__ = ["loop"]


def loop(
    cell: ScanCell, projected: Tensor, state: State, reset: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """Run `cell` one step after the other.

    It works for any cell on any device, and has gradients of any order.

    Args:
        cell: whose steps to run.
        projected: (T, B, G), from `cell.project`.
        state: before the first step; each tensor (B, ...).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, ...).
    """
    num_steps, batch = projected.shape[:2]
    initial = () if reset is None else cell.initial_state(batch, device=projected.device)
    outputs = []
    with _parametrised_weights_once(cell):
        for t in range(num_steps):
            before = state
            if reset is not None:
                state = restarted(reset[t], initial, state)
            state, output = cell.step(projected[t], state)
            if lengths is not None:
                beyond = lengths <= t
                state = restarted(beyond, before, state)
                output = output.masked_fill(beyond.unsqueeze(1), 0)
            outputs.append(output)
    if not outputs:
        return projected.new_zeros(0, batch, cell.output_size), state
    return torch.stack(outputs), state


def _parametrised_weights_once(cell: ScanCell) -> AbstractContextManager[None]:
    """Weights that torch computes from others at each access are computed at the first step alone."""
    if isinstance(cell, nn.Module) and any(map(parametrize.is_parametrized, cell.modules())):
        return parametrize.cached()
    return nullcontext()
