"""The gated recurrent unit without its recurrent weights."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.diagonal import DiagonalCell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_

__all__ = ["MinGRU"]


@final
class MinGRU(DiagonalCell):
    r"""The minGRU: a GRU whose gate and candidate see the input alone.

        z_t = sigmoid(W_z x_t + b_z)                       update gate
        h~_t = W_h x_t + b_h                               candidate
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t,    output h_t

    h is a weighted mean of candidates. The blocks are stacked in the order z, h~; the state is (h,).

    *Reference*: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, *Were RNNs all we needed?*, arXiv:2410.01201, section
    3.1.3. Departures: the plain form, not that in logarithms of appendix B, which also passes h~ through a function
    that makes it positive; biases that start as below, where the paper leaves the start open.

    Initialisations: "forget-bias" (default: 1 - z starts at sigmoid(1), b_h = 0, each block of W Glorot); "chrono" and
    "uniform-gate", which give 1 - z the values that they give an LSTM's forget gate (`throughtime.cell.gate_starts`),
    and are else as the default.

    Args:
        input_size: I.
        hidden_size: H.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or `max_lag` does not go with `init`.

    Example:
        >>> cell = MinGRU(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape
        torch.Size([4, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS

    def __init__(
        self, input_size: int, hidden_size: int, *, init: str | None = None, max_lag: int | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.init, self.max_lag = settled_start("mingru", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """W x + b: (T, B, I) -> (T, B, 2 H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """1 - z and z * h~, each (..., H)."""
        z, candidate = projected.chunk(2, dim=-1)
        return torch.sigmoid(-z), torch.sigmoid(z) * candidate  # 1 - sigmoid(z) would lose its digits near 0

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 2)
            self.bias.zero_()
            update_bias, _ = self.bias.chunk(2)
            forget_gate_(self.init, self.max_lag, update_bias)
            update_bias.neg_()
