"""Long short-term memory."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from throughtime.cell.gate_starts import check_biases, forget_gate_, settled_max_lag
from throughtime.cell.torch_layout import TorchLayoutCell
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

__all__ = ["LSTM"]


@final
class LSTM(TorchLayoutCell):
    r"""Long short-term memory with a forget gate, as `torch.nn.LSTM` computes it.

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)             input gate
        f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)             forget gate
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)                candidate
        o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)             output gate
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t),  or  W_hr (o_t * tanh(c_t)) with a projection,    output h_t

    The gates are stacked in the order i, f, g, o; the state is (h, c).

    *References*: Hochreiter & Schmidhuber 1997, *Long short-term memory*, doi:10.1162/neco.1997.9.8.1735; the forget
    gate is from Gers, Schmidhuber & Cummins 2000, doi:10.1162/089976600300015015; the projection from Sak, Senior &
    Beaufays 2014, arXiv:1402.1128.

    Departures: no peepholes; the gradient is not truncated at the gates; tanh for both squashing functions (the
    papers scale the logistic function); two biases, as in `torch.nn.LSTM`.

    Initialisations: "forget-bias" (default: b_if = 1, the other biases 0 (Jozefowicz, Zaremba & Sutskever 2015),
    each recurrent block orthogonal, each input block Glorot); "chrono" and "uniform-gate", which draw b_if and set
    b_ii = -b_if (`throughtime.cell.gate_starts`), and are else as the default; "torch" (±1/sqrt(H)).

    Kernel: "lstm", with weights [weight_hh]; none with a projection.

    Args:
        input_size: I.
        hidden_size: H, features of c.
        bias: whether there are biases at all; without them "forget-bias" leaves the forget gate at one half.
        proj_size: P, features of h, 0 <= P < H; 0 for H, without a projection.
        init: "forget-bias", "chrono", "uniform-gate" or "torch".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Raises:
        RecipeError: if `init` is unknown, a size is out of range, or `max_lag` or `bias` does not go with `init`.

    Example:
        >>> cell = LSTM(3, 5, proj_size=2)
        >>> (h, c), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape, c.shape
        (torch.Size([4, 2]), torch.Size([4, 5]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")
    inits: ClassVar[tuple[str, ...]] = ("forget-bias", "torch", "chrono", "uniform-gate")
    torch_kernel: str | None = "lstm"
    num_blocks: ClassVar[int] = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        proj_size: int = 0,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        if not 0 <= proj_size < max(hidden_size, 1):
            raise RecipeError(f"proj_size must be at least 0 and below hidden_size {hidden_size}, not {proj_size}")
        check_biases(init, bias)
        self.max_lag = settled_max_lag(init, max_lag)  # before the base draws the parameters, which needs it
        super().__init__(input_size, hidden_size, bias=bias, proj_size=proj_size, init=init)
        self.kernel = None if proj_size else KernelSpec("lstm")

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros: h (B, P or H), c (B, H)."""
        return (
            self._zeros(batch, self.output_size, device, dtype),
            self._zeros(batch, self.hidden_size, device, dtype),
        )

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih + b_hh: (T, B, I) -> (T, B, 4 H)."""
        return F.linear(x, self.weight_ih, self.both_biases())

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, 4 H), (h, c) -> (h, c), h."""
        h, c = state
        i, f, g, o = torch.addmm(projected, h, self.weight_hh.t()).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        if self.weight_hr is not None:
            h = F.linear(h, self.weight_hr)
        return (h, c), h

    def adjust_start(self) -> None:
        """Set the bias of the forget gate, and with "chrono" and "uniform-gate" that of the input gate."""
        if self.bias_ih is not None:
            i, f, _, _ = self.bias_ih.chunk(4)
            forget_gate_(self.init, self.max_lag, f, i)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (4 H, H); empty with a projection."""
        return [] if self.kernel is None else [self.weight_hh]
