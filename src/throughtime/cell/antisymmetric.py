"""The antisymmetric recurrent cell: a step of a differential equation that neither decays nor explodes."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.check import one_of
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["AntisymmetricRNN"]


@final
class AntisymmetricRNN(Cell):
    r"""Euler steps of h' = tanh(M h + V x + b), whose matrix M has eigenvalues near the imaginary axis.

        M = W - W^T - gamma 1
        h_t = h_{t-1} + eps tanh(M h_{t-1} + V_h x_t + b_h),    output h_t
        z_t = sigmoid(M h_{t-1} + V_z x_t + b_z)                                       gated alone
        h_t = h_{t-1} + eps z_t * tanh(M h_{t-1} + V_h x_t + b_h),    output h_t       gated

    The blocks are stacked in the order h, z; the state is (h,).

    *Reference*: Chang, Chen, Haber & Chi 2019, *AntisymmetricRNN: A dynamical system view on recurrent neural
    networks*, arXiv:1902.09689, equations 11 to 14.

    Departures: W - W^T is formed from all of W, of which half is redundant, instead of from its upper triangle; the
    paper searches `step_size` and `diffusion` for each task, and the defaults here are ours.

    Initialisation: W and V Gaussian with deviations 1/sqrt(H) and 1/sqrt(I), biases zero.

    Kernels: "antisymmetric" or "antisymmetric_gated" with constants (eps,) and weights [M (H, H)].

    Args:
        input_size: I.
        hidden_size: H.
        gated: whether there is a gate.
        step_size: eps, above 0.
        diffusion: gamma, at least 0; it makes the explicit steps stable.
        init: "gaussian".

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or a number is out of range.

    Example:
        >>> cell = AntisymmetricRNN(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("gaussian",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gated: bool = False,
        step_size: float = 0.1,
        diffusion: float = 0.01,
        init: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("init of antisymmetric", self.inits[0] if init is None else init, self.inits)
        if not step_size > 0:
            raise RecipeError(f"step_size must be above 0, not {step_size:g}")
        if not diffusion >= 0:
            raise RecipeError(f"diffusion must be at least 0, not {diffusion:g}")
        self.gated, self.step_size, self.diffusion = gated, step_size, diffusion
        self.kernel = KernelSpec("antisymmetric_gated" if gated else "antisymmetric", (step_size,))
        blocks = 2 if gated else 1
        self.weight_ih = nn.Parameter(torch.empty(blocks * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(blocks * hidden_size))
        self.reset_parameters()

    def matrix(self) -> Tensor:
        """M, (H, H)."""
        return (
            self.weight_hh
            - self.weight_hh.t()
            - self.diffusion * torch.eye(self.hidden_size, device=self.weight_hh.device, dtype=self.weight_hh.dtype)
        )

    def project(self, x: Tensor) -> Tensor:
        """V x + b: (T, B, I) -> (T, B, H), 2 H with a gate."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H) or (B, 2 H), (h,) -> (h,), h."""
        (h,) = state
        sums = h @ self.matrix().t()
        if self.gated:
            candidate, gate = projected.chunk(2, dim=1)
            change = torch.sigmoid(gate + sums) * torch.tanh(candidate + sums)
        else:
            change = torch.tanh(projected + sums)
        h = h + self.step_size * change
        return (h,), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with torch.no_grad():
            nn.init.normal_(self.weight_ih, std=self.input_size**-0.5)
            nn.init.normal_(self.weight_hh, std=self.hidden_size**-0.5)
            self.bias.zero_()

    def kernel_weights(self) -> list[Tensor]:
        """M (H, H)."""
        return [self.matrix()]
