"""Long short-term memory without its recurrent weights."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.diagonal import DiagonalCell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_

__all__ = ["MinLSTM"]


@final
class MinLSTM(DiagonalCell):
    r"""The minLSTM: an LSTM whose gates see the input alone, and sum to one.

        f_t = sigmoid(W_f x_t + b_f)                       forget gate
        i_t = sigmoid(W_i x_t + b_i)                       input gate
        h~_t = W_h x_t + b_h                               candidate
        h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * h~_t,    output h_t

    h is a weighted mean of candidates. The blocks are stacked in the order f, i, h~; the state is (h,). Where both
    gates are closed f + i underflows, so the quotients are computed as

        f_t / (f_t + i_t) = sigmoid(d_t),   i_t / (f_t + i_t) = sigmoid(-d_t),   d_t = log f_t - log i_t

    *Reference*: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, *Were RNNs all we needed?*, arXiv:2410.01201, section
    3.2.4. Departures: the plain form, not that in logarithms of appendix B, which also passes h~ through a function
    that makes it positive; biases that start as below.

    Initialisations: "forget-bias" (default: b_f = 1, b_i = -1, b_h = 0, each block of W Glorot); "chrono" and
    "uniform-gate", which draw b_f, set b_i = -b_f (`throughtime.cell.gate_starts`), and are else as the default. With
    b_i = -b_f the gates sum to one before they are divided, so that h keeps sigmoid(b_f) of itself.

    Args:
        input_size: I.
        hidden_size: H.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or `max_lag` does not go with `init`.

    Example:
        >>> cell = MinLSTM(3, 5)
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
        self.init, self.max_lag = settled_start("minlstm", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """W x + b: (T, B, I) -> (T, B, 3 H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """F / (f + i) and i / (f + i) * h~, each (..., H)."""
        f, i, candidate = projected.chunk(3, dim=-1)
        log_ratio = F.logsigmoid(f) - F.logsigmoid(i)
        return torch.sigmoid(log_ratio), torch.sigmoid(-log_ratio) * candidate

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 3)
            self.bias.zero_()
            forget_bias, input_bias, _ = self.bias.chunk(3)
            forget_gate_(self.init, self.max_lag, forget_bias)
            input_bias.copy_(-forget_bias)
