"""The quasi-recurrent network: gates by convolution over the input, memory by pooling."""

from __future__ import annotations

from typing import ClassVar, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.diagonal import DiagonalCell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_
from throughtime.check import one_of

__all__ = ["QRNN"]

POOLINGS: Final = ("fo", "ifo")


@final
class QRNN(DiagonalCell):
    r"""The QRNN, with a convolution over two inputs: an LSTM whose gates see the last two inputs, and no state.

        z_t = tanh(W_z0 x_{t-1} + W_z1 x_t + b_z)          candidate
        f_t = sigmoid(W_f0 x_{t-1} + W_f1 x_t + b_f)       forget gate
        o_t = sigmoid(W_o0 x_{t-1} + W_o1 x_t + b_o)       output gate
        i_t = sigmoid(W_i0 x_{t-1} + W_i1 x_t + b_i)       input gate, "ifo" alone
        c_t = f_t * c_{t-1} + (1 - f_t) * z_t              "fo" pooling
        c_t = f_t * c_{t-1} + i_t * z_t                    "ifo" pooling
        h_t = o_t * c_t,    output h_t

    The blocks are stacked in the order z, f, o, i. The state is (c, p), where p is what x_{t-1}
    adds to the sums: zero before the first step, the paper's padding.

    *Reference*: Bradbury, Merity, Xiong & Socher 2017, *Quasi-recurrent neural networks*, arXiv:1611.01576, section 2.
    Departures: biases, which the paper does not write; a width of two inputs alone, the paper's for language models;
    zoneout is a cell around this one (`throughtime.cell.Zoneout`), and f-pooling, which has no output gate, is absent.

    Initialisations: "forget-bias" (default: b_f = 1, the other biases 0, each block of filters Glorot); "chrono" and
    "uniform-gate", which draw b_f, set b_i = -b_f (`throughtime.cell.gate_starts`), and are else as the default.

    Args:
        input_size: I.
        hidden_size: H.
        pooling: "fo" or "ifo".
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        weight_ih: (3 H, 2 I), 4 H with "ifo": the first I columns see x_{t-1}, the others x_t.

    Raises:
        RecipeError: if `init` or `pooling` is unknown, a size is below 1, or `max_lag` does not go with `init`.

    Example:
        >>> cell = QRNN(3, 5)
        >>> (c, p), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape, c.shape, p.shape
        (torch.Size([4, 5]), torch.Size([4, 5]), torch.Size([4, 15]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("c", "p")
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        pooling: str = "fo",
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.pooling = one_of("pooling of qrnn", pooling, POOLINGS)
        self.init, self.max_lag = settled_start("qrnn", init, max_lag)
        self._num_blocks = 4 if pooling == "ifo" else 3
        self.weight_ih = nn.Parameter(torch.empty(self._num_blocks * hidden_size, 2 * input_size))
        self.bias = nn.Parameter(torch.empty(self._num_blocks * hidden_size))
        self.reset_parameters()

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros: c (B, H), p (B, 3 H), 4 H with "ifo"."""
        sizes = self.hidden_size, self._num_blocks * self.hidden_size
        return tuple(self._zeros(batch, size, device, dtype) for size in sizes)

    def project(self, x: Tensor) -> Tensor:
        """W_1 x + b, and W_0 x for the step after: (T, B, I) -> (T, B, 6 H), 8 H with "ifo"."""
        before, now = self.weight_ih.chunk(2, dim=1)
        return F.linear(x, torch.cat([now, before]), torch.cat([self.bias, torch.zeros_like(self.bias)]))

    def handed_on(self, projected: Tensor) -> tuple[Tensor, ...]:
        """W_0 x, (..., 3 H) or (..., 4 H)."""
        return (projected.chunk(2, dim=-1)[1],)

    def look_back(self, projected: Tensor, handed: tuple[Tensor, ...]) -> Tensor:
        """W_0 x_{t-1} + W_1 x_t + b, (..., 3 H) or (..., 4 H)."""
        return projected.chunk(2, dim=-1)[0] + handed[0]

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """F and (1 - f) * z, or i * z, each (..., H)."""
        z, f, _, *i = projected.chunk(self._num_blocks, dim=-1)
        # 1 - sigmoid(f) would lose its digits near 0.
        return torch.sigmoid(f), torch.sigmoid(i[0] if i else -f) * torch.tanh(z)

    def readout(self, h: Tensor, projected: Tensor) -> Tensor:
        """O * c, (..., H)."""
        return torch.sigmoid(projected.chunk(self._num_blocks, dim=-1)[2]) * h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, self._num_blocks)
            self.bias.zero_()
            _, forget_bias, _, *input_bias = self.bias.chunk(self._num_blocks)
            forget_gate_(self.init, self.max_lag, forget_bias, *input_bias)

    def extra_repr(self) -> str:
        """The sizes and the pooling, for `print`."""
        return super().extra_repr() + ("" if self.pooling == POOLINGS[0] else f", pooling={self.pooling!r}")
