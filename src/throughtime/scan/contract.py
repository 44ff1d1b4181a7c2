"""What a scan sees of a cell, and what a reset means; no scan knows any cell by name."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from throughtime.kernels.spec import KernelSpec

__all__ = ["ScanCell", "State", "restarted"]

State = tuple[Tensor, ...]


class ScanCell(Protocol):
    """The part of a cell (`throughtime.cell.Cell`) that scans use."""

    @property
    def output_size(self) -> int:
        """Features of an output."""

    @property
    def torch_kernel(self) -> str | None:
        """Which of torch's fused kernels computes these same equations, if any."""

    @property
    def kernel(self) -> KernelSpec | None:
        """Which of our compiled loops computes these same equations, if any."""

    @property
    def matrix_rule(self) -> str | None:
        """By which rule the chunkwise scan computes these same equations, if any."""

    def kernel_weights(self) -> list[Tensor]:
        """The tensors that it takes besides the projected input and the state."""

    def torch_weights(self) -> list[Tensor]:
        """The weights as that kernel takes them."""

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state before the first step, each tensor (B, ...)."""

    def project(self, x: Tensor) -> Tensor:
        """(T, B, I) -> (T, B, G)."""

    def step(self, projected: Tensor, state: State) -> tuple[State, Tensor]:
        """Projected (B, G), state -> the next state, output (B, output_size)."""


def restarted(rows: Tensor, initial: State, state: State) -> State:
    """`state` with the rows for which `rows` (B,) is True taken from `initial`."""
    return tuple(
        torch.where(rows.view(-1, *[1] * (old.dim() - 1)), new.to(old.dtype), old)
        for new, old in zip(initial, state, strict=True)
    )
