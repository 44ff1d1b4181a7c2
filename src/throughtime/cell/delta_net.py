"""DeltaNet with a forget gate."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import settled_start
from throughtime.cell.heads import HEAD_STARTS, decay_bias_, settled_num_heads
from throughtime.cell.initialisation import glorot_blocks_

__all__ = ["DeltaNetForm", "GatedDeltaNet"]

LENGTH_EPS: Final = 1e-6
"""Added to the squared length of keys and queries: zero has a gradient too, and float16 can hold this."""

NORM_EPS: Final = 1e-5


class DeltaNetForm(NamedTuple):
    """What the equations of `GatedDeltaNet` take from the input; d = H / heads.

    Attributes:
        queries: q (..., heads, d).
        keys: k (..., heads, d), of length 1.
        values: v (..., heads, d).
        log_decay: log alpha (..., heads).
        beta: (..., heads).
        output_gate: (..., H).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decay: Tensor
    beta: Tensor
    output_gate: Tensor


@final
class GatedDeltaNet(Cell):
    r"""A matrix memory, for each head, whose entry at a key is corrected towards a value; the rest of it fades.

        q_t = unit(silu(W_q x_t + b_q)),  k_t = unit(silu(W_k x_t + b_k)),  v_t = silu(W_v x_t + b_v)
        alpha_t = sigmoid(w_a x_t + b_a)                                       what is kept, one a head
        beta_t = 2 sigmoid(w_b x_t + b_b)                                      how far to correct, one a head
        S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T        memory, d x d with d = H / heads
        y_t = gain * norm(S_t q_t) * silu(W_g x_t + b_g),    output y_t

    where unit(z) = z / |z|, and norm divides by the root of the mean square over a head. With beta_t = 1 the value at
    k_t is replaced by v_t. The transition has the eigenvalue alpha_t (1 - beta_t) along k_t and alpha_t across it. To
    follow a parity it must turn negative, which it does where beta_t > 1; `negative_eigenvalues=False` has
    beta_t = sigmoid(w_b x_t + b_b) instead, and cannot.

    Nothing but the memory depends on the past, so whole chunks of steps turn into matrix products
    (`throughtime.scan.chunkwise`). What is projected is q, k, v, silu(g), log alpha, beta; the state is (S,).

    *References*: Yang, Kautz & Hatamizadeh 2024, *Gated delta networks: Improving Mamba2 with delta rule*,
    arXiv:2412.06464, equation 10; Grazzi, Siems, Zela, Franke, Hutter & Pontil 2025, *Unlocking state-tracking in
    linear RNNs through negative eigenvalues*, arXiv:2411.12537.

    Departures: the cell alone, without the short convolutions and the projection of the output; values as wide as
    keys; every linear map has a bias; the gain is one for each of the H features, not shared by the heads. The paper's
    alpha = exp(-A softplus(z)) is sigmoid(-z) for A = 1, which it is here. |z| is sqrt(z . z + 1e-6).

    Initialisations: "spread" (default: b_a of the heads evenly from 3 to 6, the other biases 0, so that beta starts
    around 1 with negative eigenvalues and 1/2 without; each block of weights Glorot); "chrono", which draws b_a for
    lags up to `max_lag` (`throughtime.cell.heads`), and is else the same.

    Args:
        input_size: I.
        hidden_size: H.
        num_heads: how many memories; the fewest that are at most 64 and at least 16 features wide unless given.
        negative_eigenvalues: whether beta lies in (0, 2) instead of (0, 1).
        init: "spread" or "chrono".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        weight_ih: (4 H + 2 heads, I): W_q, W_k, W_v, W_g, w_a, w_b.
        bias: (4 H + 2 heads), in the same order.
        gain: (H,).
        matrix_rule: "delta", by which the chunkwise scan knows these equations.

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, `num_heads` does not divide H, or `max_lag` does not go
            with `init`.

    Example:
        >>> cell = GatedDeltaNet(3, 6, num_heads=2)
        >>> (S,), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape, S.shape
        (torch.Size([4, 6]), torch.Size([4, 2, 3, 3]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("S",)
    inits: ClassVar[tuple[str, ...]] = HEAD_STARTS
    linear: ClassVar[bool] = True
    matrix_rule: ClassVar[Literal["delta"]] = "delta"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int | None = None,
        negative_eigenvalues: bool = True,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.num_heads = settled_num_heads(hidden_size, num_heads)
        self.negative_eigenvalues = negative_eigenvalues
        self.init, self.max_lag = settled_start("gated-deltanet", init, max_lag, HEAD_STARTS)
        rows = 4 * hidden_size + 2 * self.num_heads
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.gain = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros: S (B, heads, d, d), rows for values and columns for keys."""
        heads, size = self.num_heads, self.hidden_size // self.num_heads
        return (self._zeros(batch, heads * size * size, device, dtype).view(batch, heads, size, size),)

    def project(self, x: Tensor) -> Tensor:
        """Q, k, v, silu(g), log alpha and beta: (T, B, I) -> (T, B, 4 H + 2 heads)."""
        size, heads = self.hidden_size, self.num_heads
        linear = F.linear(x, self.weight_ih, self.bias)
        features, log_alpha, beta = torch.split(linear, [4 * size, heads, heads], dim=-1)
        both, rest = torch.split(F.silu(features), [2 * size, 2 * size], dim=-1)
        units = _unit(torch.unflatten(both, -1, (2 * heads, size // heads))).flatten(-2)
        beta = torch.sigmoid(beta) * (2 if self.negative_eigenvalues else 1)
        return torch.cat([units, rest, F.logsigmoid(log_alpha), beta], dim=-1)

    def matrix_form(self, projected: Tensor) -> DeltaNetForm:
        """The parts of `projected` (..., G) by name."""
        size, heads = self.hidden_size, self.num_heads
        q, k, v, gate, log_alpha, beta = torch.split(projected, [size] * 4 + [heads] * 2, dim=-1)
        q, k, v = (torch.unflatten(part, -1, (heads, size // heads)) for part in (q, k, v))
        return DeltaNetForm(queries=q, keys=k, values=v, log_decay=log_alpha, beta=beta, output_gate=gate)

    def matrix_readout(self, form: DeltaNetForm, read: Tensor) -> Tensor:
        """The output (..., H) of what was read from the memory, S q (..., heads, d)."""
        normed = read * torch.rsqrt(read.square().mean(-1, keepdim=True) + NORM_EPS)
        return self.gain * normed.flatten(-2) * form.output_gate

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, G), (S,) -> (S,), y (B, H)."""
        form = self.matrix_form(projected)
        memory = torch.exp(form.log_decay)[..., None, None] * state[0]
        held = (memory @ form.keys.unsqueeze(-1)).squeeze(-1)
        correction = form.beta.unsqueeze(-1) * (form.values - held)
        memory = memory + correction.unsqueeze(-1) * form.keys.unsqueeze(-2)
        read = (memory @ form.queries.unsqueeze(-1)).squeeze(-1)
        return (memory,), self.matrix_readout(form, read)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        size, heads = self.hidden_size, self.num_heads
        with torch.no_grad():
            matrices, gates = torch.split(self.weight_ih, [4 * size, 2 * heads])
            glorot_blocks_(matrices, 4)
            glorot_blocks_(gates, 2)
            self.bias.zero_()
            decay_bias_(self.init, self.max_lag, self.bias[4 * size : 4 * size + heads])
            self.gain.fill_(1.0)


def _unit(z: Tensor) -> Tensor:
    """Z divided by its length over the last axis."""
    return z * torch.rsqrt(z.square().sum(-1, keepdim=True) + LENGTH_EPS)
