"""Time cut into chunks of equal size, and what of a chunk's past each of its steps still sees.

Within a chunk every step is set against every other at once. A decay from step s to step t is a sum of logarithms over
s < r <= t, added up for each pair by itself: differences of running sums would lose the digits of all that came
before, and quotients of running products would divide by zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Chunks", "cut_into_chunks"]

CHUNK_STEPS = 64
"""The longest chunk: work within chunks grows with it, and what is done for each chunk in turn shrinks."""


@dataclass(frozen=True)
class Chunks:
    """How T steps lie in chunks, the last of which may be filled up with steps that do nothing.

    Shapes in chunks are (chunks, B, heads, steps, ...).

    Attributes:
        num_steps: T.
        shape: (chunks, steps of a chunk).
        valid: (chunks * steps, B) bool; which steps lie before their row's length; None if all do.
        together: (chunks, B, 1, steps, steps) bool, or (steps, steps) without resets; whether step t (last axis but
            one) still sees step s: s <= t, and no reset after s up to t.
        carried: (chunks, B, 1, steps) bool; whether a step still sees the state before its chunk; None if all do.
    """

    num_steps: int
    shape: tuple[int, int]
    valid: Tensor | None
    together: Tensor
    carried: Tensor | None

    def pad(self, projected: Tensor) -> Tensor:
        """(T, B, G) -> (chunks * steps, B, G), zero wherever a step is not valid, whatever stood there."""
        if self.valid is None:
            return projected
        padded = F.pad(projected, (0, 0, 0, 0, 0, math.prod(self.shape) - self.num_steps))
        return padded.masked_fill(~self.valid.unsqueeze(2), 0)

    def fill(self, part: Tensor, value: float) -> Tensor:
        """(chunks * steps, B, heads) with `value` wherever a step is not valid."""
        return part if self.valid is None else part.masked_fill(~self.valid.unsqueeze(2), value)

    def split(self, part: Tensor) -> Tensor:
        """(chunks * steps, B, heads, ...) -> (chunks, B, heads, steps, ...)."""
        return torch.unflatten(part, 0, self.shape).movedim(1, 3).contiguous()

    def join(self, part: Tensor) -> Tensor:
        """(chunks, B, heads, steps, ...) -> (chunks * steps, B, heads, ...)."""
        return part.movedim(3, 1).flatten(0, 1)

    def trim(self, outputs: Tensor) -> Tensor:
        """(chunks * steps, B, ...) -> (T, B, ...), zero beyond a length."""
        if self.valid is None:
            return outputs
        return outputs.masked_fill(~self.valid.unsqueeze(2), 0)[: self.num_steps]

    def log_decay_between(self, log_decay: Tensor) -> Tensor:
        """What is left at step t of what entered at step s, as a logarithm; -inf where t does not see s.

        Args:
            log_decay: of each step (chunks, B, heads, steps), finite.

        Returns:
            (chunks, B, heads, steps t, steps s); 0 where s = t.
        """
        steps = self.shape[1]
        summed = log_decay.unsqueeze(-1).expand(*log_decay.shape, steps).tril(-1).cumsum(-2)
        return summed.masked_fill(~self.together, -torch.inf)

    def log_decay_since(self, log_decay: Tensor) -> Tensor:
        """What is left at step t of the state before its chunk, or before the last reset up to t, as a logarithm.

        Args:
            log_decay: of each step (chunks, B, heads, steps), finite.

        Returns:
            (chunks, B, heads, steps).
        """
        if self.carried is None:
            return log_decay.cumsum(-1)
        return (self.together.to(log_decay.dtype) @ log_decay.unsqueeze(-1)).squeeze(-1)

    def apart(self, past: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split factors of the past into those of the state before the chunk and those of the one after a reset.

        Args:
            past: (chunks, B, heads, steps), of the state before a step's chunk or before the last reset up to it.

        Returns:
            Two tensors (chunks, B, heads, steps, 1) that sum to `past`; None for the second without resets.
        """
        past = past.unsqueeze(-1)
        if self.carried is None:
            return past, None
        carried = self.carried.unsqueeze(-1)
        return past.masked_fill(~carried, 0), past.masked_fill(carried, 0)


def cut_into_chunks(
    num_steps: int, batch: int, device: torch.device, reset: Tensor | None, lengths: Tensor | None
) -> Chunks:
    """Cut T steps into as few chunks as possible, of as equal sizes as possible.

    Args:
        num_steps: T, at least 1.
        batch: B.
        device: where the masks go.
        reset: (T, B) bool, or None.
        lengths: (B,) integers from 0 to T, or None.

    Returns:
        The chunks; without masks where nothing is to be masked.

    Example:
        >>> cut_into_chunks(130, 1, torch.device("cpu"), None, None).shape
        (3, 44)
    """
    num_chunks = -(-num_steps // CHUNK_STEPS)
    steps = -(-num_steps // num_chunks)
    valid = None
    if lengths is not None or num_chunks * steps > num_steps:
        ends = torch.full((batch,), num_steps, device=device) if lengths is None else lengths
        valid = torch.arange(num_chunks * steps, device=device).unsqueeze(1) < ends
    together = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    if reset is None:
        return Chunks(num_steps, (num_chunks, steps), valid, together, None)

    if valid is not None:
        reset = F.pad(reset, (0, 0, 0, num_chunks * steps - num_steps)) & valid
    pieces = torch.unflatten(reset, 0, (num_chunks, steps)).transpose(1, 2).unsqueeze(2).cumsum(-1)
    together = together & (pieces.unsqueeze(-1) == pieces.unsqueeze(-2))
    return Chunks(num_steps, (num_chunks, steps), valid, together, pieces == 0)
