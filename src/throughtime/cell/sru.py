"""The simple recurrent unit: gates that see each its own unit's memory, and a highway around it."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["SRU"]

_WIDEST_BIAS = 20
"""At which the gate is closed or open to float32's last digit, but for a few."""


@final
class SRU(Cell):
    r"""The SRU: all matrix products lie before the recurrence, which goes from each unit to itself alone.

        f_t = sigmoid(W_f x_t + v_f * c_{t-1} + b_f)                  forget gate
        c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t)                     memory
        r_t = sigmoid(W_r x_t + v_r * c_{t-1} + b_r)                  reset gate
        h_t = r_t * c_t + (1 - r_t) * alpha * s_t,    output h_t
        s_t = x_t where I = H,  and else W_s x_t                      skip

    c enters its own gates, so the update is element by element and yet not linear: no scan can join its steps. What is
    projected is W x, W_f x + b_f, W_r x + b_r, alpha s, in this order; the state is (c,).

    *Reference*: Lei, Zhang, Wang, Dai & Artzi 2018, *Simple recurrent units for highly parallelizable recurrence*,
    arXiv:1709.02755, section 3.

    Departures: W_s where the sizes differ; the paper's sizes do not. The paper leaves the start of v_f and v_r open;
    they start at 0. Its forget gate starts as "forget-bias" and the others say, not with b_f = 0.

    Initialisations: all draw each matrix from U[-sqrt(3/I), sqrt(3/I)] (section 3.2) and set b_r = `highway_bias`;
    alpha = sqrt(1 + 2 exp(b_r)) at that start, constant thereafter, lets the output vary as much as the input.
    "forget-bias" (default: b_f = 1), "chrono" and "uniform-gate" start b_f (`throughtime.cell.gate_starts`).

    Kernel: "sru", with weights [v_f (H,), v_r (H,)].

    Args:
        input_size: I.
        hidden_size: H.
        highway_bias: b_r at the start; the lower, the more of the skip there is in the output.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        alpha: what the skip is multiplied by.
        weight_ih: (3 H, I), or (4 H, I) with W_s.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, `highway_bias` is beyond ±20, or `max_lag` does not
            go with `init`.

    Example:
        >>> cell = SRU(3, 5)
        >>> (c,), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape, c.shape
        (torch.Size([4, 5]), torch.Size([4, 5]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("c",)
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS
    kernel: KernelSpec | None = KernelSpec("sru")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        highway_bias: float = 0.0,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not -_WIDEST_BIAS <= highway_bias <= _WIDEST_BIAS:
            raise RecipeError(
                f"highway_bias must lie between {-_WIDEST_BIAS} and {_WIDEST_BIAS}, not at {highway_bias:g}"
            )
        self.highway_bias = highway_bias
        self.alpha = math.sqrt(1 + 2 * math.exp(highway_bias))
        self.init, self.max_lag = settled_start("sru", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty((3 if input_size == hidden_size else 4) * hidden_size, input_size))
        self.v_f = nn.Parameter(torch.empty(hidden_size))
        self.v_r = nn.Parameter(torch.empty(hidden_size))
        self.b_f = nn.Parameter(torch.empty(hidden_size))
        self.b_r = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """W x, W_f x + b_f, W_r x + b_r and alpha s: (T, B, I) -> (T, B, 4 H)."""
        bias = torch.cat([torch.zeros_like(self.b_f), self.b_f, self.b_r])
        if self.input_size == self.hidden_size:
            return torch.cat([F.linear(x, self.weight_ih, bias), self.alpha * x], dim=-1)
        scale = torch.ones_like(self.weight_ih[:, :1])
        scale[3 * self.hidden_size :] = self.alpha
        return F.linear(x, scale * self.weight_ih, torch.cat([bias, torch.zeros_like(self.b_f)]))

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 4 H), (c,) -> (c,), h (B, H)."""
        (c,) = state
        candidate, f, r, skip = projected.chunk(4, dim=1)
        f, r = torch.sigmoid(f + self.v_f * c), torch.sigmoid(r + self.v_r * c)
        c = f * c + (1 - f) * candidate
        return (c,), r * c + (1 - r) * skip

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        bound = math.sqrt(3 / self.input_size)
        with torch.no_grad():
            nn.init.uniform_(self.weight_ih, -bound, bound)
            self.v_f.zero_()
            self.v_r.zero_()
            forget_gate_(self.init, self.max_lag, self.b_f)
            self.b_r.fill_(self.highway_bias)

    def kernel_weights(self) -> list[Tensor]:
        """`v_f` (H,) and `v_r` (H,)."""
        return [self.v_f, self.v_r]
