"""Long expressive memory."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.initialisation import torch_uniform_
from throughtime.check import one_of
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["LEM"]


@final
class LEM(Cell):
    r"""Two states that follow a differential equation at many speeds, each unit's own and learned.

        d_t = dt sigmoid(W_1 y_{t-1} + V_1 x_t + b_1)                               step of z
        e_t = dt sigmoid(W_2 y_{t-1} + V_2 x_t + b_2)                               step of y
        z_t = (1 - d_t) * z_{t-1} + d_t * tanh(W_z y_{t-1} + V_z x_t + b_z)
        y_t = (1 - e_t) * y_{t-1} + e_t * tanh(W_y z_t + V_y x_t + b_y),    output y_t

    The blocks are stacked in the order d, e, z, y, of which y alone sees z; the state is (y, z).

    *Reference*: Rusch, Mishra, Erichson & Mahoney 2022, *Long expressive memory for sequence modeling*,
    arXiv:2110.04744, equation 3.

    Departures: none but the stacking.

    Initialisation: every weight and bias uniform in ±1/sqrt(H).

    Kernel: "lem" with constants (dt,) and weights [weight_yh (3 H, H), weight_zh (H, H)].

    Args:
        input_size: I.
        hidden_size: H.
        step_size: dt, above 0 and at most 1: the longest step.
        init: "uniform".

    Attributes:
        weight_ih: V, (4 H, I).
        weight_yh: W_1, W_2, W_z, by which y is multiplied, (3 H, H).
        weight_zh: W_y, by which the new z is, (H, H).
        bias: (4 H,).

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or `step_size` is out of range.

    Example:
        >>> cell = LEM(3, 5)
        >>> (y, z), output = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> output.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("y", "z")
    inits: ClassVar[tuple[str, ...]] = ("uniform",)

    def __init__(self, input_size: int, hidden_size: int, *, step_size: float = 1.0, init: str | None = None) -> None:
        super().__init__(input_size, hidden_size)
        one_of("init of lem", self.inits[0] if init is None else init, self.inits)
        if not 0 < step_size <= 1:
            raise RecipeError(f"step_size must lie above 0 and be at most 1, not {step_size:g}")
        self.step_size = step_size
        self.kernel = KernelSpec("lem", (step_size,))
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_yh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.weight_zh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """V x + b: (T, B, I) -> (T, B, 4 H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 4 H), (y, z) -> (y, z), y."""
        y, z = state
        by_y, by_z = projected[:, : 3 * self.hidden_size], projected[:, 3 * self.hidden_size :]
        step_z, step_y, candidate = torch.addmm(by_y, y, self.weight_yh.t()).chunk(3, dim=1)
        z = z + self.step_size * torch.sigmoid(step_z) * (torch.tanh(candidate) - z)
        target = torch.tanh(torch.addmm(by_z, z, self.weight_zh.t()))
        y = y + self.step_size * torch.sigmoid(step_y) * (target - y)
        return (y, z), y

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        torch_uniform_(self.parameters(), self.hidden_size)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_yh` (3 H, H) and `weight_zh` (H, H)."""
        return [self.weight_yh, self.weight_zh]
