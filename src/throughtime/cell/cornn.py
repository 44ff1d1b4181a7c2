"""The coupled oscillatory recurrent cell."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.check import one_of
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["CoRNN"]


@final
class CoRNN(Cell):
    r"""A network of damped, driven oscillators, coupled by what drives them: bounded gradients by construction.

        z_t = z_{t-1} + dt (tanh(W y_{t-1} + W' z_{t-1} + V x_t + b) - gamma y_{t-1} - epsilon z_{t-1})
        y_t = y_{t-1} + dt z_t,    output y_t

    y are the positions and z the velocities; the state is (y, z).

    *Reference*: Rusch & Mishra 2021, *Coupled oscillatory recurrent neural network (coRNN): An accurate and (gradient)
    stable architecture for learning long time dependencies*, arXiv:2010.00951, equation 3.

    Of the two forms of equation 3 this is the explicit one, damped by the old z. The paper searches dt, gamma and
    epsilon for each task; the defaults are of the size that it reports for pixel by pixel digits.

    Initialisation: every weight and bias uniform in ±1/sqrt(I + 2 H), its fan-in.

    Kernel: "cornn" with constants (dt, gamma, epsilon) and weights [weight_hh (H, 2 H), by which (y, z) is multiplied].

    Args:
        input_size: I.
        hidden_size: H.
        step_size: dt, above 0.
        frequency: gamma, above 0: the square of the oscillators' own.
        damping: epsilon, above 0.
        init: "uniform".

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or a number is not above 0.

    Example:
        >>> cell = CoRNN(3, 5)
        >>> (y, z), output = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> output.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("y", "z")
    inits: ClassVar[tuple[str, ...]] = ("uniform",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        step_size: float = 0.042,
        frequency: float = 2.7,
        damping: float = 4.7,
        init: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("init of cornn", self.inits[0] if init is None else init, self.inits)
        for name, value in (("step_size", step_size), ("frequency", frequency), ("damping", damping)):
            if not value > 0:
                raise RecipeError(f"{name} must be above 0, not {value:g}")
        self.step_size, self.frequency, self.damping = step_size, frequency, damping
        self.kernel = KernelSpec("cornn", (step_size, frequency, damping))
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """V x + b: (T, B, I) -> (T, B, H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H), (y, z) -> (y, z), y."""
        y, z = state
        force = torch.tanh(torch.addmm(projected, torch.cat([y, z], dim=1), self.weight_hh.t()))
        z = z + self.step_size * (force - self.frequency * y - self.damping * z)
        y = y + self.step_size * z
        return (y, z), y

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = (self.input_size + 2 * self.hidden_size) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (H, 2 H)."""
        return [self.weight_hh]
