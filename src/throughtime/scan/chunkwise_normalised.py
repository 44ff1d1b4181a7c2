r"""Chunks of a matrix memory with a normaliser and exponential gates, in units that keep every number in range.

With C the memory, n its normaliser, f the decay, i the input gate, and all decays from s to t written f_{t,s},

    C_t = sum_{s <= t} f_{t,s} i_s v_s k_s^T + f_{t,0} C_0,     C_t q_t = sum_s (f_{t,s} i_s) (q_t . k_s) v_s + ...

so that a chunk's reads are (Q K^T * weights) V, and n_t . q_t is one more column of it, with 1 for v. The state before
each chunk follows from that before the last one by one decay and one sum over the chunk.

Each step's numbers are in units of exp(m_t), m_t the largest of all log f_{t,s} + log i_s: no weight exceeds 1. What is
read does not depend on the unit, and neither does the state that a chunk hands on, so these units carry no gradient.
Those of the last state do, since the caller sees them.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from throughtime.scan.chunks import Chunks
from throughtime.scan.contract import State

__all__ = ["NormalisedCell", "NormalisedForm", "normalised"]


class NormalisedForm(Protocol):
    """What a cell's equations take from the input; leading axes are (..., heads), and d features make a head."""

    @property
    def queries(self) -> Tensor:
        """(..., heads, d)."""

    @property
    def keys(self) -> Tensor:
        """(..., heads, d)."""

    @property
    def values(self) -> Tensor:
        """(..., heads, d)."""

    @property
    def log_decay(self) -> Tensor:
        """(..., heads), finite."""

    @property
    def log_input(self) -> Tensor:
        """(..., heads)."""


Form = TypeVar("Form", bound=NormalisedForm)


class NormalisedCell(Protocol[Form]):
    """A cell with `matrix_rule = "normalised"`, whose state is C (B, heads, d, d), n (B, heads, d) and m (B, heads).

    m_t = max(log_decay + m_{t-1}, log_input),    C_t exp(m_t) = decay C_{t-1} exp(m_{t-1}) + input v k^T,    n alike.
    """

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """C, n and m before the first step, m finite."""

    def matrix_form(self, projected: Tensor) -> Form:
        """The parts of (..., G); with finite gradients from zeros too, which fill up the last chunk."""

    def matrix_readout(self, form: Form, read: Tensor, normaliser: Tensor, log_scale: Tensor) -> Tensor:
        """The output (..., output_size) of C q (..., heads, d) and n . q (..., heads) in units of exp(log_scale).

        It must not depend on the unit.
        """


def normalised(cell: NormalisedCell[Form], projected: Tensor, state: State, chunks: Chunks) -> tuple[Tensor, State]:
    """Run `cell` over chunks.

    Args:
        cell: whose equations to run.
        projected: (chunks * steps, B, G).
        state: C, n and m before the first step.
        chunks: how time is cut.

    Returns:
        The outputs (chunks * steps, B, output_size) and the final C, n and m.
    """
    form = cell.matrix_form(projected)
    queries, keys = chunks.split(form.queries), chunks.split(form.keys)
    values = F.pad(chunks.split(form.values), (0, 1), value=1.0)
    log_decay = chunks.split(chunks.fill(form.log_decay, 0.0))
    log_input = chunks.split(chunks.fill(form.log_input, -torch.inf))
    memory, m = _joined(state)
    fresh, fresh_m = _joined(cell.initial_state(projected.size(1), device=projected.device, dtype=projected.dtype))

    log_weights = chunks.log_decay_between(log_decay) + log_input.unsqueeze(-2)
    log_past, last_m = _log_past(chunks, chunks.log_decay_since(log_decay), log_weights, m, fresh_m)
    scale = torch.maximum(log_weights.detach().amax(-1), log_past.detach())
    weights = torch.exp(log_weights - scale.unsqueeze(-1))
    carried, renewed = chunks.apart(torch.exp(log_past - scale))

    reads = (queries @ keys.transpose(-1, -2) * weights) @ values
    added = (values * weights[..., -1, :].unsqueeze(-1)).transpose(-1, -2) @ keys
    if renewed is not None:
        reads = reads + (queries * renewed) @ fresh.transpose(-1, -2)
        added = added + renewed[..., -1:, :] * fresh
    memories, memory = _memories(carried[..., -1:, :], added, memory)
    reads = chunks.join(reads + (queries * carried) @ memories.transpose(-1, -2))

    outputs = cell.matrix_readout(form, reads[..., :-1], reads[..., -1], chunks.join(scale))
    # A factor of 1: it turns the constant unit of the last memory into the one that follows the input.
    memory = memory * torch.exp(last_m.detach() - last_m)[..., None, None]
    return outputs, (memory[..., :-1, :], memory[..., -1, :], last_m)


def _joined(state: State) -> tuple[Tensor, Tensor]:
    """C with n as one more row, (B, heads, d + 1, d), and m."""
    memory, n, m = state
    return torch.cat([memory, n.unsqueeze(-2)], dim=-2), m


def _log_past(chunks: Chunks, since: Tensor, log_weights: Tensor, m: Tensor, fresh_m: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of the state before a step's chunk, or of that after a reset, as a logarithm; and the last m.

    Args:
        chunks: how time is cut.
        since: log decays (chunks, B, heads, steps).
        log_weights: of each step at each step (chunks, B, heads, steps, steps).
        m: (B, heads), of the state before the first step.
        fresh_m: (B, heads), of the initial state.
    """
    peaks, starts = log_weights[..., -1, :].amax(-1), []
    for chunk, peak in enumerate(peaks.unbind(0)):
        starts.append(m if chunk == 0 else m.detach())
        past = m if chunks.carried is None else torch.where(chunks.carried[chunk, ..., -1], m, fresh_m)
        m = torch.maximum(peak, past + since[chunk, ..., -1])
    log_past = since + torch.stack(starts).unsqueeze(-1)
    if chunks.carried is not None:
        log_past = torch.where(chunks.carried, log_past, since + fresh_m.unsqueeze(-1))
    return log_past, m


def _memories(kept: Tensor, added: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The memory before each chunk (chunks, B, heads, d + 1, d), and after the last."""
    before = []
    for factor, new in zip(kept.unbind(0), added.unbind(0), strict=True):
        before.append(memory)
        memory = torch.addcmul(new, factor, memory)
    return torch.stack(before), memory
