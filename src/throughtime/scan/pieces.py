"""Sequences cut at their resets and lengths into pieces, packed so that one kernel call runs all of them.

A piece is a stretch of one row from a reset (or the start) to the step before the next reset (or the end). No state
crosses from one piece to another, so the pieces are independent sequences: sorted by length, longest first, they fit
torch's packed form, in which step s of all pieces that are longer than s comes before step s + 1 of any.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.scan.contract import ScanCell, State, restarted

__all__ = ["Pieces", "cut"]


@dataclass(frozen=True)
class Pieces:
    """Where each packed step comes from; P pieces with N steps in all.

    Attributes:
        positions: (N,) index into the T * B flattened steps, in packed order.
        batch_sizes: (steps of the longest piece,) int64 on the CPU; how many pieces are longer than s.
        rows: (P,) the row of each piece, in packed order.
        fresh: (P,) bool; whether the piece starts from the initial state instead of the state passed in.
        last: (B,) which piece is the last of each row; 0 where a row has none.
        empty: (B,) bool; rows without a piece.
    """

    positions: Tensor
    batch_sizes: Tensor
    rows: Tensor
    fresh: Tensor
    last: Tensor
    empty: Tensor

    def starts(self, cell: ScanCell, state: State) -> State:
        """The state before each piece, (P, ...), from the state of each row, (B, ...)."""
        carried = tuple(part[self.rows] for part in state)
        return restarted(self.fresh, cell.initial_state(self.rows.numel(), device=self.rows.device), carried)

    def ends(self, final: State, state: State) -> State:
        """The state after each row, (B, ...), from that after each piece; an empty row keeps its `state`."""
        return restarted(self.empty, state, tuple(part[self.last] for part in final))


def cut(reset: Tensor, lengths: Tensor | None) -> Pieces | None:
    """Cut rows of T steps at their resets.

    Args:
        reset: (T, B) bool.
        lengths: (B,) integers from 0 to T, or None for T.

    Returns:
        The pieces, or None if every row is empty.
    """
    num_steps, batch = reset.shape
    steps = torch.arange(num_steps, device=reset.device)
    valid = (torch.ones_like(reset) if lengths is None else steps.unsqueeze(1) < lengths).t()
    begins = reset.t().clone()
    begins[:, 0] = True
    begins &= valid

    rows, first_steps = begins.nonzero(as_tuple=True)  # ordered by row, then by step
    if not rows.numel():
        return None
    piece = (begins.flatten().cumsum(0) - 1)[valid.flatten()]  # of each valid step, row after row
    order = torch.bincount(piece, minlength=rows.numel()).argsort(descending=True, stable=True)
    rank = order.argsort()

    row, step = valid.nonzero(as_tuple=True)
    within = step - first_steps[piece]
    packed = (within * rows.numel() + rank[piece]).argsort()
    pieces_in_row = begins.sum(1)
    return Pieces(
        positions=(step * batch + row)[packed],
        batch_sizes=torch.bincount(within).cpu(),
        rows=rows[order],
        fresh=reset[first_steps, rows][order],
        last=rank[(pieces_in_row.cumsum(0) - 1).clamp(min=0)],
        empty=pieces_in_row == 0,
    )
