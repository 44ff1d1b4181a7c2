"""The scalar LSTM of xLSTM, with exponential gates."""

from __future__ import annotations

from typing import ClassVar, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_, orthogonal_blocks_
from throughtime.check import at_least, one_of
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["SLSTM"]

FORGET_GATES: Final = ("sigmoid", "exponential")

EMPTY_MEMORY_LOG_SCALE: Final = -1e4
"""m before the first step, in place of log 0; within the range of float16."""


@final
class SLSTM(Cell):
    r"""The sLSTM: an LSTM with an exponential input gate, whose memory is normalised by the sum of its weights.

        (i~, f~, z~, o~) = W_ih x_t + W_hh h_{t-1} + b
        i_t = exp(i~)                                      input gate
        f_t = sigmoid(f~),  or  exp(f~)                    forget gate
        c_t = f_t * c_{t-1} + i_t * tanh(z~)               memory
        n_t = f_t * n_{t-1} + i_t                          normaliser
        h_t = sigmoid(o~) * c_t / n_t,    output h_t

    c / n is a weighted mean of candidates, and an exponential gate can outweigh all earlier ones at one step: the cell
    can revise what it stored. Since exp overflows, c and n are held in units of exp(m), with

        m_t = max(log f_t + m_{t-1}, i~)
        c_t = exp(log f_t + m_{t-1} - m_t) * c_{t-1} + exp(i~ - m_t) * tanh(z~),    n_t alike

    which leaves h as it is. The gates are stacked in the order i, f, z, o; the state is (h, c, n, m), and c, n, m have
    a meaning together only.

    *Reference*: Beck, Pöppel, Spanring, Auer, Prudnikova, Kopp, Klambauer, Brandstetter & Hochreiter 2024, *xLSTM:
    Extended long short-term memory*, arXiv:2405.04517, section 2.2 and appendix A.

    Departures: the cell alone, without the block of convolution, group norm and projections around it; the order of
    the gates (z, i, f, o in the paper), for that of the LSTM. The paper leaves the choice of the forget gate open.

    The start: c = n = 0 makes m free, and log 0 = -inf would belong to it, which turns to NaN as soon as something
    subtracts or masks it. m = -10,000 gives the same h: at the first step m becomes i~, hence n = 1 exactly, and from
    then on n >= 1, so c / n needs no guard. From m = 0 a first i~ below -88 would give 0 / 0 in float32.

    Initialisations: "forget-bias" (default: f starts at sigmoid(1), the other biases 0, each recurrent block
    orthogonal for each head, each input block Glorot); "chrono" and "uniform-gate", which draw the f that they give an
    LSTM (`throughtime.cell.gate_starts`), and are else as the default. They leave the bias of the input gate at 0: n
    settles at i / (1 - f), so that new input weighs 1 - f already.

    Kernel: "slstm", with the constant 0 for the sigmoid and 1 for the exponential forget gate, and weights
    [weight_hh (4 H, H)]; none with more than one head.

    Args:
        input_size: I.
        hidden_size: H.
        num_heads: how many groups of units, each of which sees its own h alone: W_hh is block-diagonal.
        forget_gate: "sigmoid" or "exponential".
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        weight_hh: (4 H, H / num_heads); row u of a gate's block multiplies the h of the head to which unit u belongs.

    Raises:
        RecipeError: if `init` or `forget_gate` is unknown, a size is below 1, `num_heads` does not divide H, or
            `max_lag` does not go with `init`.

    Example:
        >>> cell = SLSTM(3, 6, num_heads=2)
        >>> (h, c, n, m), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape, n.min().item()
        (torch.Size([2, 6]), 1.0)
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c", "n", "m")
    one_memory: ClassVar[tuple[str, ...]] = ("c", "n", "m")
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int = 1,
        forget_gate: str = "sigmoid",
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        at_least("num_heads", num_heads, 1)
        if hidden_size % num_heads:
            raise RecipeError(f"num_heads must divide hidden_size {hidden_size}, and {num_heads} does not")
        self.num_heads = num_heads
        self.forget_gate = one_of("forget_gate of slstm", forget_gate, FORGET_GATES)
        self.kernel = KernelSpec("slstm", (float(forget_gate == "exponential"),)) if num_heads == 1 else None
        self.init, self.max_lag = settled_start("slstm", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size // num_heads))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros for h, c and n, and -10,000 for m, each (B, H).

        A state of another origin must have n > 0 wherever its exp(m) still counts: n is a sum of weights.
        """
        h, c, n, m = super().initial_state(batch, device=device, dtype=dtype)
        return h, c, n, m + EMPTY_MEMORY_LOG_SCALE

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b: (T, B, I) -> (T, B, 4 H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 4 H), (h, c, n, m) -> (h, c, n, m), h."""
        h, c, n, m = state
        log_i, f, z, o = self._sums(projected, h).chunk(4, dim=1)
        log_kept = m + (F.logsigmoid(f) if self.forget_gate == "sigmoid" else f)
        m = torch.maximum(log_kept, log_i)
        kept, new = torch.exp(log_kept - m), torch.exp(log_i - m)
        c = kept * c + new * torch.tanh(z)
        n = kept * n + new
        h = torch.sigmoid(o) * c / n
        return (h, c, n, m), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 4)
            orthogonal_blocks_(self.weight_hh, 4 * self.num_heads)
            self.bias.zero_()
            forget_bias = self.bias.chunk(4)[1]
            forget_gate_(self.init, self.max_lag, forget_bias)
            if self.forget_gate == "exponential":
                forget_bias.copy_(F.logsigmoid(forget_bias))  # the same f, as exp(b) instead of sigmoid(b)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (4 H, H); empty with more than one head."""
        return [] if self.kernel is None else [self.weight_hh]

    def _sums(self, projected: Tensor, h: Tensor) -> Tensor:
        """Projected + W_hh h, (B, 4 H)."""
        if self.num_heads == 1:
            return torch.addmm(projected, h, self.weight_hh.t())
        size = self.hidden_size // self.num_heads
        weight = self.weight_hh.view(4, self.num_heads, size, size)
        mixed = torch.einsum("ghuv,bhv->bghu", weight, h.view(-1, self.num_heads, size))
        return projected + mixed.flatten(1)
