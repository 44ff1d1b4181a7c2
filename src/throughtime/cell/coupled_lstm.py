"""Long short-term memory with coupled input and forget gates."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_, orthogonal_blocks_
from throughtime.kernels.spec import KernelSpec

__all__ = ["CoupledLSTM"]


@final
class CoupledLSTM(Cell):
    r"""Long short-term memory whose input gate is what its forget gate leaves: i = 1 - f (CIFG).

        f_t = sigmoid(W_if x_t + W_hf h_{t-1} + b_f)                     forget gate
        g_t = tanh(W_ig x_t + W_hg h_{t-1} + b_g)                        candidate
        o_t = sigmoid(W_io x_t + W_ho h_{t-1} + b_o)                     output gate
        c_t = f_t * c_{t-1} + (1 - f_t) * g_t
        h_t = o_t * tanh(c_t),    output h_t

    The gates are stacked in the order f, g, o; the state is (h, c). c is a weighted mean of candidates, so |c| <= 1,
    and there is a quarter less to compute and to store than in an LSTM.

    *Reference*: Greff, Srivastava, Koutník, Steunebrink & Schmidhuber 2015, *LSTM: A search space odyssey*,
    arXiv:1503.04069, variant CIFG.

    Departures: no peepholes.

    Initialisations: "forget-bias" (default: b_f = 1, the other biases 0, each recurrent block orthogonal, each input
    block Glorot); "chrono" and "uniform-gate", which draw b_f (`throughtime.cell.gate_starts`), and are else as the
    default. Both were derived for gates coupled like these.

    Kernel: "coupled_lstm", with weights [weight_hh (3 H, H)].

    Args:
        input_size: I.
        hidden_size: H.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or `max_lag` does not go with `init`.

    Example:
        >>> cell = CoupledLSTM(3, 5)
        >>> (h, c), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS
    kernel: KernelSpec | None = KernelSpec("coupled_lstm")

    def __init__(
        self, input_size: int, hidden_size: int, *, init: str | None = None, max_lag: int | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.init, self.max_lag = settled_start("coupled-lstm", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b: (T, B, I) -> (T, B, 3 H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 3 H), (h, c) -> (h, c), h."""
        h, c = state
        f, g, o = torch.addmm(projected, h, self.weight_hh.t()).chunk(3, dim=1)
        f = torch.sigmoid(f)
        c = f * c + (1 - f) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h, c), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 3)
            orthogonal_blocks_(self.weight_hh, 3)
            self.bias.zero_()
            forget_gate_(self.init, self.max_lag, self.bias.chunk(3)[0])

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (3 H, H)."""
        return [self.weight_hh]
