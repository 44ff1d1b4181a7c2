"""The independently recurrent cell: each unit sees its own past alone."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.elman import NONLINEARITIES
from throughtime.cell.initialisation import glorot_blocks_
from throughtime.check import at_least, one_of
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["IndRNN"]

_MOST_GROWTH, _LEAST_LEFT = 2.0, 0.01
_DEFAULT_MAX_LAG = 100


@final
class IndRNN(Cell):
    r"""A recurrent cell whose units multiply their own state by a factor of their own, and see no other unit's.

        h_t = f(W x_t + u * h_{t-1} + b),    output h_t

    The gradient of a ReLU unit through k steps is u^k where the unit is active: it can be read off, and bounded.
    Units meet one another in the layer above, so these cells want to be stacked.

    *Reference*: Li, Li, Cook, Zhu & Gao 2018, *Independently recurrent neural network (IndRNN)*, arXiv:1803.04831.

    Departures: u is bounded at its start alone; the paper clips it in training too, and adds batch normalisation.

    Initialisations: W Glorot, b zero, and u uniform: "uniform" (default) in [0, 1]; "long" in [0.01^(1/T), 2^(1/T)]
    with T = `max_lag`, so that of a ReLU unit's gradient between 1 % and 200 % are left after T steps.

    Kernels: "indrnn_tanh" or "indrnn_relu", with weights [u (H,)].

    Args:
        input_size: I.
        hidden_size: H.
        nonlinearity: f, "relu" or "tanh".
        init: "uniform" or "long".
        max_lag: T of "long", at least 1; 100 unless given.

    Raises:
        RecipeError: if `init` or `nonlinearity` is unknown, a size is below 1, or `max_lag` does not go with `init`.

    Example:
        >>> cell = IndRNN(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("uniform", "long")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "relu",
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.init = self.inits[0] if init is None else one_of("init of indrnn", init, self.inits)
        if max_lag is not None and self.init != "long":
            raise RecipeError("max_lag is used by init='long' alone: choose that, or leave max_lag out")
        self.max_lag = _DEFAULT_MAX_LAG if max_lag is None else max_lag
        at_least("max_lag", self.max_lag, 1)
        self.nonlinearity = one_of("nonlinearity of indrnn", nonlinearity, NONLINEARITIES)
        self.kernel = KernelSpec(f"indrnn_{nonlinearity}")
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.u = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """W x + b: (T, B, I) -> (T, B, H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H), (h,) -> (h,), h."""
        (h,) = state
        h = NONLINEARITIES[self.nonlinearity](projected + self.u * h)
        return (h,), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 1)
            self.bias.zero_()
            low, high = (0.0, 1.0)
            if self.init == "long":
                low, high = _LEAST_LEFT ** (1 / self.max_lag), _MOST_GROWTH ** (1 / self.max_lag)
            nn.init.uniform_(self.u, low, high)

    def kernel_weights(self) -> list[Tensor]:
        """U (H,)."""
        return [self.u]
