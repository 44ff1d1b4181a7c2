"""The gated recurrent unit."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from throughtime.cell.gate_starts import check_biases, forget_gate_, settled_max_lag
from throughtime.cell.torch_layout import TorchLayoutCell
from throughtime.kernels.spec import KernelSpec

__all__ = ["GRU"]


@final
class GRU(TorchLayoutCell):
    r"""The gated recurrent unit, as `torch.nn.GRU` computes it.

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)             reset gate
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)             update gate
        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))        candidate
        h_t = (1 - z_t) * n_t + z_t * h_{t-1},    output h_t

    The gates are stacked in the order r, z, n.

    *Reference*: Cho et al. 2014, *Learning phrase representations using RNN encoder-decoder for statistical machine
    translation*, arXiv:1406.1078.

    Departures, all of them torch's: the reset gate acts after the recurrent product instead of before it (so that one
    product serves all three gates); biases, two of them, of which b_hn lies inside the product with r.

    Initialisations: "orthogonal" (default: each recurrent block orthogonal, each input block Glorot, zero biases);
    "chrono" and "uniform-gate", which draw b_iz, since z keeps what an LSTM's forget gate keeps
    (`throughtime.cell.gate_starts`), and are else as the default; "torch" (±1/sqrt(H)).

    Kernel: "gru", with weights [weight_hh, bias_hh].

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases at all.
        init: "orthogonal", "chrono", "uniform-gate" or "torch".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or `max_lag` or `bias` does not go with `init`.

    Example:
        >>> cell = GRU(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("orthogonal", "torch", "chrono", "uniform-gate")
    torch_kernel: str | None = "gru"
    num_blocks: ClassVar[int] = 3
    kernel: KernelSpec | None = KernelSpec("gru")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        check_biases(init, bias)
        self.max_lag = settled_max_lag(init, max_lag)  # before the base draws the parameters, which needs it
        super().__init__(input_size, hidden_size, bias=bias, init=init)

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih: (T, B, I) -> (T, B, 3 H). b_hh stays in the step, since r multiplies a part of it."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 3 H), (h,) -> (h,), h."""
        (h,) = state
        input_r, input_z, input_n = projected.chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, dim=1)
        r = torch.sigmoid(input_r + hidden_r)
        z = torch.sigmoid(input_z + hidden_z)
        n = torch.tanh(input_n + r * hidden_n)
        h = (1 - z) * n + z * h
        return (h,), h

    def adjust_start(self) -> None:
        """Set the bias of the update gate for "chrono" and "uniform-gate"."""
        if self.bias_ih is not None and self.init != "orthogonal":
            forget_gate_(self.init, self.max_lag, self.bias_ih.chunk(3)[1])

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (3 H, H) and `bias_hh` (3 H), which is zero where there are no biases."""
        bias = self.weight_hh.new_zeros(self.weight_hh.size(0)) if self.bias_hh is None else self.bias_hh
        return [self.weight_hh, bias]
