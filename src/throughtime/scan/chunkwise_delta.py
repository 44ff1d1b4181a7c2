r"""Chunks of a matrix memory under the gated delta rule.

With S the memory, alpha the decay, alpha_{t,s} its product over s < r <= t, and u_t what step t really adds,

    S_t = alpha_t S_{t-1} + u_t k_t^T,    u_t = beta_t (v_t - alpha_t S_{t-1} k_t)
    u_t + beta_t sum_{s < t} alpha_{t,s} (k_t . k_s) u_s = beta_t (v_t - alpha_{t,0} S_0 k_t)

The second line is a unit lower-triangular system in a chunk's u. Solved for both terms of the right side (the WY
representation of a product of Householder-like matrices), it gives u = U - W S_0^T for every chunk at once, before any
S_0 is known; each chunk's S_0 then takes two products. Reads are (Q K^T * alpha_{t,s}) u + alpha_{t,0} Q S_0^T.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from throughtime.scan.chunks import Chunks
from throughtime.scan.contract import State

__all__ = ["DeltaCell", "DeltaForm", "delta"]


class DeltaForm(Protocol):
    """What a cell's equations take from the input; leading axes are (..., heads), and d features make a head."""

    @property
    def queries(self) -> Tensor:
        """(..., heads, d)."""

    @property
    def keys(self) -> Tensor:
        """(..., heads, d), of a length for which no beta |k|^2 exceeds 2, or the memory grows."""

    @property
    def values(self) -> Tensor:
        """(..., heads, d)."""

    @property
    def log_decay(self) -> Tensor:
        """(..., heads), finite."""

    @property
    def beta(self) -> Tensor:
        """(..., heads)."""


Form = TypeVar("Form", bound=DeltaForm)


class DeltaCell(Protocol[Form]):
    """A cell with `matrix_rule = "delta"`, whose state is S (B, heads, d, d), rows for values and columns for keys.

    S_t = decay S_{t-1} (I - beta k k^T) + beta v k^T.
    """

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """S before the first step."""

    def matrix_form(self, projected: Tensor) -> Form:
        """The parts of (..., G); with finite gradients from zeros too, which fill up the last chunk."""

    def matrix_readout(self, form: Form, read: Tensor) -> Tensor:
        """The output (..., output_size) of S q (..., heads, d)."""


def delta(cell: DeltaCell[Form], projected: Tensor, state: State, chunks: Chunks) -> tuple[Tensor, State]:
    """Run `cell` over chunks.

    Args:
        cell: whose equations to run.
        projected: (chunks * steps, B, G).
        state: S before the first step.
        chunks: how time is cut.

    Returns:
        The outputs (chunks * steps, B, output_size) and the final S.
    """
    form = cell.matrix_form(projected)
    queries, keys, values = chunks.split(form.queries), chunks.split(form.keys), chunks.split(form.values)
    log_decay = chunks.split(chunks.fill(form.log_decay, 0.0))
    beta = chunks.split(chunks.fill(form.beta, 0.0)).unsqueeze(-1)

    decay = torch.exp(chunks.log_decay_between(log_decay))
    carried, renewed = chunks.apart(torch.exp(chunks.log_decay_since(log_decay)))
    target, renewal = values, None
    if renewed is not None:
        (fresh,) = cell.initial_state(projected.size(1), device=projected.device, dtype=projected.dtype)
        target = values - (renewed * keys) @ fresh.transpose(-1, -2)
        renewal = renewed[..., -1:, :] * fresh
    system = (beta * keys) @ keys.transpose(-1, -2) * decay
    right = beta * torch.cat([target, carried * keys], dim=-1)
    # Only what lies below the diagonal is read; the diagonal counts as 1.
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)

    added_keys = keys * decay[..., -1, :].unsqueeze(-1)
    memories, updates, memory = _memories(solved, added_keys, carried[..., -1:, :], renewal, state[0])
    reads = (queries @ keys.transpose(-1, -2) * decay) @ updates
    reads = reads + (queries * carried) @ memories.transpose(-1, -2)
    if renewed is not None:
        reads = reads + (queries * renewed) @ fresh.transpose(-1, -2)
    return cell.matrix_readout(form, chunks.join(reads)), (memory,)


def _memories(
    solved: Tensor, added_keys: Tensor, kept: Tensor, renewal: Tensor | None, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The memory before each chunk, what each step adds, and the memory after the last chunk.

    Args:
        solved: U and W (chunks, B, heads, steps, 2 d).
        added_keys: the keys of each chunk (chunks, B, heads, steps, d), as much as is left of them at its end.
        kept: how much of the state before a chunk is left at its end (chunks, B, heads, 1, 1).
        renewal: what is left at a chunk's end of the initial state after a reset (chunks, B, heads, d, d), or None.
        memory: before the first step (B, heads, d, d).

    Returns:
        S (chunks, B, heads, d, d), u (chunks, B, heads, steps, d), S (B, heads, d, d).
    """
    before, updates = [], []
    for chunk, (both, left, factor) in enumerate(
        zip(solved.unbind(0), added_keys.unbind(0), kept.unbind(0), strict=True)
    ):
        own, response = both.chunk(2, dim=-1)
        before.append(memory)
        updates.append(own - response @ memory.transpose(-1, -2))
        memory = factor * memory + updates[-1].transpose(-1, -2) @ left
        if renewal is not None:
            memory = memory + renewal[chunk]
    return torch.stack(before), torch.stack(updates), memory
