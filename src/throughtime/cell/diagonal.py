"""The contract of a cell whose units do not see one another's state, nor their own through anything but a factor."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

from torch import Tensor

from throughtime.cell.base import Cell
from throughtime.kernels.pairs import product

__all__ = ["DiagonalCell"]


class DiagonalCell(Cell):
    """A cell whose state update is linear and element by element, with coefficients that the input alone decides.

        h_t = a_t * h_{t-1} + b_t

    Such steps can be joined before they are run, so that `throughtime.scan.diagonal` needs O(log T) operations instead
    of T. A cell of your own needs `state_names`, `project`, `coefficients`, `reset_parameters`, and `readout` where the
    output is not h itself. Its `initial_state` is that of any cell: zeros unless it says otherwise, and after a reset.

    A complex cell sets `complex_state`. Its state of N units, a and b then hold N real parts followed by N imaginary
    parts on a last axis of S = 2 N. The dtype stays real, so that whatever checks, casts or saves a state needs to know
    nothing of it.

    A cell that looks back at the input of the step before hands it on: what `handed_on` takes from a step's projected
    input is the state after its first tensor, and `look_back` joins it with the projected input of the next step. After
    a reset it is the initial state's, so no input from before is read.

    Attributes:
        complex_state: whether a, b and the first tensor of the state hold real parts and then imaginary parts.
        linear: True, of h; what is handed on may enter the coefficients in any way.
    """

    linear: ClassVar[bool] = True
    complex_state: ClassVar[bool] = False

    @abstractmethod
    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """What makes h_t = a_t * h_{t-1} + b_t.

        Args:
            projected: (T, B, G) or (B, G), as `look_back` gave it.

        Returns:
            a (..., S), or (S,) where it is the same at all steps and rows; b (..., S).
        """

    def readout(self, h: Tensor, projected: Tensor) -> Tensor:  # noqa: ARG002  # overriders read it
        """The output of the states h (..., S) after their steps; h itself unless the cell says otherwise.

        Args:
            h: (T, B, S) or (B, S).
            projected: (T, B, G) or (B, G), as `look_back` gave it.

        Returns:
            (..., output_size).
        """
        return h

    def handed_on(self, projected: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002  # overriders read it
        """What the next step sees of this one's projected input (..., G); nothing unless the cell says otherwise.

        Returns:
            One tensor (..., ·) for each of `state_names` but the first.
        """
        return ()

    def look_back(self, projected: Tensor, handed: tuple[Tensor, ...]) -> Tensor:  # noqa: ARG002  # overriders read it
        """The projected input (..., G) joined with what the step before handed on; as it is unless the cell says so."""
        return projected

    @final
    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, G), (h, what was handed on) -> the next state, output (B, output_size)."""
        h, *handed = state
        full = self.look_back(projected, tuple(handed))
        a, b = self.coefficients(full)
        h = product(a, h, self.complex_state) + b
        return (h, *self.handed_on(projected)), self.readout(h, full)
