"""Long short-term memory with layer normalisation."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import GATE_STARTS, forget_gate_, settled_start
from throughtime.cell.initialisation import glorot_blocks_, orthogonal_blocks_
from throughtime.check import at_least
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["LayerNormLSTM"]


@final
class LayerNormLSTM(Cell):
    r"""Long short-term memory whose sums are normalised over the units of the layer, at every step by itself.

        LN(a; gain) = gain * (a - mean(a)) / sqrt(var(a) + eps)         over all features of a
        (i, f, g, o) = LN(W_ih x_t; gain_ih) + LN(W_hh h_{t-1}; gain_hh) + b          each LN over all 4 H at once
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(LN(c_t; gain_c) + bias_c),    output h_t

    The gates are stacked in the order i, f, g, o; the state is (h, c), and c is carried as it is, not normalised.

    *Reference*: Ba, Kiros & Hinton 2016, *Layer normalization*, arXiv:1607.06450, supplementary
    material, layer normalised LSTM.

    Departures: one bias b in place of b and the shifts of two norms, all of which are merely added; eps beneath the
    root, which the paper does not mention. The variance is the mean of the squares, as in the paper.

    At h = 0, where sequences start, LN multiplies the derivative by 1 / sqrt(eps): the gradient by an initial h says
    little. That by c is not affected.

    Initialisations: "forget-bias" (default: b_f = 1, the other biases 0, gains 1, each recurrent block orthogonal,
    each input block Glorot); "chrono" and "uniform-gate", which draw b_f and set b_i = -b_f
    (`throughtime.cell.gate_starts`), and are else as the default.

    Kernel: "layer_norm_lstm", with the constant eps and weights [weight_hh (4 H, H), gain_hh (4 H), gain_c (H),
    bias_c (H)].

    Args:
        input_size: I.
        hidden_size: H, at least 2: one unit normalised is a constant.
        eps: what keeps the root from zero.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size or `eps` is out of range, or `max_lag` does not go with `init`.

    Example:
        >>> cell = LayerNormLSTM(3, 5)
        >>> (h, c), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")
    inits: ClassVar[tuple[str, ...]] = GATE_STARTS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        eps: float = 1e-5,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        at_least("hidden_size", hidden_size, 2)
        if not eps > 0:
            raise RecipeError(f"eps must be above 0, not {eps:g}")
        self.eps = eps
        self.kernel = KernelSpec("layer_norm_lstm", (eps,))
        self.init, self.max_lag = settled_start("layer-norm-lstm", init, max_lag)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_hh = nn.Parameter(torch.empty(4 * hidden_size))
        self.gain_c = nn.Parameter(torch.empty(hidden_size))
        self.bias_c = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """LN(W_ih x; gain_ih) + b: (T, B, I) -> (T, B, 4 H)."""
        return self._norm(F.linear(x, self.weight_ih), self.gain_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 4 H), (h, c) -> (h, c), h."""
        h, c = state
        sums = projected + self._norm(F.linear(h, self.weight_hh), self.gain_hh)
        i, f, g, o = sums.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self._norm(c, self.gain_c, self.bias_c))
        return (h, c), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 4)
            orthogonal_blocks_(self.weight_hh, 4)
            for gain in (self.gain_ih, self.gain_hh, self.gain_c):
                gain.fill_(1.0)
            for bias in (self.bias, self.bias_c):
                bias.zero_()
            i, f, _, _ = self.bias.chunk(4)
            forget_gate_(self.init, self.max_lag, f, i)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (4 H, H), `gain_hh` (4 H), `gain_c` (H), `bias_c` (H)."""
        return [self.weight_hh, self.gain_hh, self.gain_c, self.bias_c]

    def _norm(self, sums: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
        return F.layer_norm(sums, sums.shape[-1:], gain, shift, self.eps)
