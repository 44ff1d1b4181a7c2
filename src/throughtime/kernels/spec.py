"""How a cell says which compiled loop serves it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KernelSpec"]


@dataclass(frozen=True)
class KernelSpec:
    """A compiled loop over time, and the numbers that it needs besides tensors.

    Attributes:
        name: of the loop, as the library in `throughtime.kernels` knows it.
        constants: what the cell's equations hold that no gradient goes to (a step size, say), in the loop's order.
    """

    name: str
    constants: tuple[float, ...] = ()
