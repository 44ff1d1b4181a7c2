"""The matrix LSTM of xLSTM."""

from __future__ import annotations

import math
from typing import ClassVar, Final, Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.base import Cell
from throughtime.cell.gate_starts import settled_start
from throughtime.cell.heads import HEAD_STARTS, decay_bias_, settled_num_heads
from throughtime.cell.initialisation import glorot_blocks_
from throughtime.cell.slstm import EMPTY_MEMORY_LOG_SCALE
from throughtime.check import one_of

__all__ = ["MLSTM", "MLSTMForm"]

FORGET_GATES: Final = ("sigmoid", "exponential")


class MLSTMForm(NamedTuple):
    """What the equations of `MLSTM` take from the input; d = H / heads.

    Attributes:
        queries: q (..., heads, d).
        keys: k (..., heads, d).
        values: v (..., heads, d).
        log_decay: log f (..., heads).
        log_input: i~ (..., heads).
        output_gate: o (..., H).
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decay: Tensor
    log_input: Tensor
    output_gate: Tensor


@final
class MLSTM(Cell):
    r"""The mLSTM: an LSTM whose memory is a matrix that associates keys with values, for each head.

        q_t = W_q x_t + b_q,   k_t = W_k x_t / sqrt(d) + b_k,   v_t = W_v x_t + b_v     d = H / heads features a head
        i_t = exp(i~),   i~ = w_i x_t + b_i                                            input gate, one a head
        f_t = sigmoid(f~)  or  exp(f~),   f~ = w_f x_t + b_f                           forget gate, one a head
        o_t = sigmoid(W_o x_t + b_o)                                                   output gate
        C_t = f_t C_{t-1} + i_t v_t k_t^T                                              memory, d x d
        n_t = f_t n_{t-1} + i_t k_t                                                    normaliser
        h_t = o_t * (C_t q_t) / max(|n_t . q_t|, 1),    output h_t

    Nothing but the memory depends on the past, so whole chunks of steps turn into matrix products
    (`throughtime.scan.chunkwise`). Since exp overflows, C and n are held in units of exp(m), with

        m_t = max(log f_t + m_{t-1}, i~)
        C_t = exp(log f_t + m_{t-1} - m_t) C_{t-1} + exp(i~ - m_t) v_t k_t^T,    n_t alike
        h_t = o_t * (C_t q_t) / max(|n_t . q_t|, exp(-m_t))

    which leaves h as it is. What is projected is q, k, v, o, i~, log f; the state is (C, n, m), and its parts have a
    meaning together only.

    *Reference*: Beck, Pöppel, Spanring, Auer, Prudnikova, Kopp, Klambauer, Brandstetter & Hochreiter 2024, *xLSTM:
    Extended long short-term memory*, arXiv:2405.04517, section 2.3 and appendix A.

    Departures: the cell alone, without the block around it (causal convolution, projections up and down, group norm,
    skip). The last line is computed with both sides of the fraction times exp(min(m, 0)), since exp(-m) overflows
    where the memory is faint.

    The start: log 0 = -inf would belong to C = n = 0, and turns to NaN as soon as something subtracts or masks it.
    Zeros are zeros in every unit, so any finite m gives the same h; m = -10,000 lets the first step set the unit.

    Initialisations: "spread" (default: b_f of the heads evenly from 3 to 6, the other biases 0, each block of W
    Glorot, w_i = w_f = 0, so that the gates are constant until they have learned otherwise); "chrono", which draws b_f
    for lags up to `max_lag` (`throughtime.cell.heads`), and is else the same.

    Args:
        input_size: I.
        hidden_size: H.
        num_heads: how many memories; the fewest that are at most 64 and at least 16 features wide unless given.
        forget_gate: "sigmoid" or "exponential".
        init: "spread" or "chrono".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        weight_ih: (4 H + 2 heads, I): W_q, W_k, W_v, W_o, w_i, w_f.
        bias: (4 H + 2 heads), in the same order.
        matrix_rule: "normalised", by which the chunkwise scan knows these equations.

    Raises:
        RecipeError: if `init` or `forget_gate` is unknown, a size is below 1, `num_heads` does not divide H, or
            `max_lag` does not go with `init`.

    Example:
        >>> cell = MLSTM(3, 6, num_heads=2)
        >>> (C, n, m), y = cell.step(cell.project(torch.ones(1, 4, 3))[0], cell.initial_state(4))
        >>> y.shape, C.shape, n.shape, m.shape
        (torch.Size([4, 6]), torch.Size([4, 2, 3, 3]), torch.Size([4, 2, 3]), torch.Size([4, 2]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("C", "n", "m")
    one_memory: ClassVar[tuple[str, ...]] = ("C", "n", "m")
    inits: ClassVar[tuple[str, ...]] = HEAD_STARTS
    matrix_rule: ClassVar[Literal["normalised"]] = "normalised"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int | None = None,
        forget_gate: str = "sigmoid",
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.num_heads = settled_num_heads(hidden_size, num_heads)
        self.forget_gate = one_of("forget_gate of mlstm", forget_gate, FORGET_GATES)
        self.init, self.max_lag = settled_start("mlstm", init, max_lag, HEAD_STARTS)
        rows = 4 * hidden_size + 2 * self.num_heads
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.reset_parameters()

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros for C (B, heads, d, d) and n (B, heads, d), and -10,000 for m (B, heads)."""
        heads, size = self.num_heads, self.hidden_size // self.num_heads
        return (
            self._zeros(batch, heads * size * size, device, dtype).view(batch, heads, size, size),
            self._zeros(batch, heads * size, device, dtype).view(batch, heads, size),
            self._zeros(batch, heads, device, dtype) + EMPTY_MEMORY_LOG_SCALE,
        )

    def project(self, x: Tensor) -> Tensor:
        """Q, k, v, o, i~ and log f: (T, B, I) -> (T, B, 4 H + 2 heads)."""
        size, heads = self.hidden_size, self.num_heads
        linear = F.linear(x, self._scaled_weight(), self.bias)
        q, k, v, o, i, f = torch.split(linear, [size] * 4 + [heads] * 2, dim=-1)
        log_f = F.logsigmoid(f) if self.forget_gate == "sigmoid" else f
        return torch.cat([q, k, v, torch.sigmoid(o), i, log_f], dim=-1)

    def matrix_form(self, projected: Tensor) -> MLSTMForm:
        """The parts of `projected` (..., G) by name."""
        size, heads = self.hidden_size, self.num_heads
        q, k, v, o, i, log_f = torch.split(projected, [size] * 4 + [heads] * 2, dim=-1)
        q, k, v = (torch.unflatten(part, -1, (heads, size // heads)) for part in (q, k, v))
        return MLSTMForm(queries=q, keys=k, values=v, log_decay=log_f, log_input=i, output_gate=o)

    def matrix_readout(self, form: MLSTMForm, read: Tensor, normaliser: Tensor, log_scale: Tensor) -> Tensor:
        """The output of what was read from the memory.

        Args:
            form: what `matrix_form` gave.
            read: C q (..., heads, d), in units of exp(log_scale).
            normaliser: n . q (..., heads), in the same units.
            log_scale: (..., heads), m or any other choice: h does not depend on it.

        Returns:
            h (..., H).
        """
        # A unit of one's own choice drops out of the fraction, and so has no gradient.
        shift = log_scale.detach().clamp(max=0)
        unit = torch.exp(shift)
        divisor = torch.maximum(unit * normaliser.abs(), torch.exp(shift - log_scale))
        return form.output_gate * (read * (unit / divisor).unsqueeze(-1)).flatten(-2)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, G), (C, n, m) -> (C, n, m), h (B, H)."""
        form = self.matrix_form(projected)
        memory, n, m = state
        log_kept = m + form.log_decay
        m = torch.maximum(log_kept, form.log_input)
        kept, new = torch.exp(log_kept - m), torch.exp(form.log_input - m)
        key = new.unsqueeze(-1) * form.keys
        memory = kept[..., None, None] * memory + form.values.unsqueeze(-1) * key.unsqueeze(-2)
        n = kept.unsqueeze(-1) * n + key
        read = (memory @ form.queries.unsqueeze(-1)).squeeze(-1)
        output = self.matrix_readout(form, read, (n * form.queries).sum(-1), m)
        return (memory, n, m), output

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            matrices, gates = torch.split(self.weight_ih, [4 * self.hidden_size, 2 * self.num_heads])
            glorot_blocks_(matrices, 4)
            gates.zero_()
            self.bias.zero_()
            forget_bias = self.bias[-self.num_heads :]
            decay_bias_(self.init, self.max_lag, forget_bias)
            if self.forget_gate == "exponential":
                forget_bias.copy_(F.logsigmoid(forget_bias))  # the same f, as exp(b) instead of sigmoid(b)

    def _scaled_weight(self) -> Tensor:
        """`weight_ih` with W_k / sqrt(d): I columns are fewer to scale than T * B keys."""
        size, heads = self.hidden_size, self.num_heads
        scale = torch.ones_like(self.bias)
        scale[size : 2 * size] = 1 / math.sqrt(size // heads)
        return self.weight_ih * scale.unsqueeze(1)
