"""How a cell says which compiled loop serves it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_WEIGHTS", "KernelSpec"]

MAX_WEIGHTS = 16
"""So many tensors a compiled loop takes besides the projected input and the state."""


@dataclass(frozen=True)
class KernelSpec:
    """A compiled loop over time, and the numbers that it needs besides tensors.

    Attributes:
        name: of the loop, as the library in `throughtime.kernels` knows it.
        constants: what the cell's equations hold that no gradient goes to (a step size, say), in the loop's order.
    """

    name: str
    constants: tuple[float, ...] = ()
