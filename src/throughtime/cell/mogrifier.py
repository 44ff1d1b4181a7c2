"""The Mogrifier LSTM."""

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
from throughtime.kernels.spec import MAX_WEIGHTS, KernelSpec

__all__ = ["MogrifierLSTM"]


@final
class MogrifierLSTM(Cell):
    r"""An LSTM before whose step the input and the state gate one another, in alternation.

        x <- 2 sigmoid(Q_r h) * x      in the odd rounds r = 1, 3, ...
        h <- 2 sigmoid(R_r x) * h      in the even rounds r = 2, 4, ...

    starting from x_t and h_{t-1}; then, with what the rounds have left,

        (i, f, g, o) = W_ih x + W_hh h + b
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t),    output h_t

    A word is thus read in the light of its context before it enters the memory. The gates are stacked in the order i,
    f, g, o; the state is (h, c). Without rounds this is the LSTM.

    *Reference*: Melis, Kočiský & Blunsom 2020, *Mogrifier LSTM*, arXiv:1909.01792, equations 1 and 2.

    Departures: none in the equations; the paper's experiments also tie the input gate to the forget gate.

    Initialisations: "forget-bias" (default: b_f = 1, the other biases 0, each recurrent block orthogonal, each input
    block and each Q, R or factor of them Glorot); "chrono" and "uniform-gate", which draw b_f and set b_i = -b_f
    (`throughtime.cell.gate_starts`), and are else as the default. From h = 0 every gate of the first step's round 1
    is 2 sigmoid(0) = 1.

    Kernel: "mogrifier", with the constant rounds and weights [Q_1, R_2, Q_3, ..., weight_ih, weight_hh, bias]; none
    with a rank.

    Args:
        input_size: I.
        hidden_size: H.
        rounds: how often one gates the other.
        rank: k, for Q = left (I, k) @ right (k, H) and likewise R; full matrices unless given.
        init: "forget-bias", "chrono" or "uniform-gate".
        max_lag: T_max of "chrono", at least 2; 100 unless given.

    Attributes:
        left: Q_1 (I, H), R_2 (H, I), Q_3, ...; with a rank, their left factors (I or H, k).
        right: with a rank the right factors (k, H or I), and else None.

    Raises:
        RecipeError: if `init` is unknown, a number is out of range, or `max_lag` does not go with `init`.

    Example:
        >>> cell = MogrifierLSTM(3, 5, rounds=4, rank=2)
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
        rounds: int = 5,
        rank: int | None = None,
        init: str | None = None,
        max_lag: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        at_least("rounds", rounds, 0)
        smaller = min(input_size, hidden_size)
        if rank is not None and not 1 <= rank < smaller:
            raise RecipeError(
                f"rank must be at least 1 and below the smaller of input_size and hidden_size, {smaller}, "
                f"not {rank}; leave it out for full matrices"
            )
        if rank is not None and not rounds:
            raise RecipeError("rank is that of the rounds' matrices, and rounds=0 leaves none: leave rank out")
        self.rounds = rounds
        self.rank = rank
        served = rank is None and rounds + 3 <= MAX_WEIGHTS  # a matrix a round, W_ih, W_hh, b
        self.kernel = KernelSpec("mogrifier", (rounds,)) if served else None
        self.init, self.max_lag = settled_start("mogrifier-lstm", init, max_lag)
        shapes = [(input_size, hidden_size) if r % 2 else (hidden_size, input_size) for r in range(1, rounds + 1)]
        self.left = nn.ParameterList(nn.Parameter(torch.empty(rows, rank or columns)) for rows, columns in shapes)
        self.right = (
            None
            if rank is None
            else nn.ParameterList(nn.Parameter(torch.empty(rank, columns)) for _, columns in shapes)
        )
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        """X itself, (T, B, I): its map needs the state."""
        return x

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: x (B, I), (h, c) -> (h, c), h."""
        x, (h, c) = projected, state
        for index in range(self.rounds):
            if index % 2 == 0:
                x = self._gate(index, h) * x
            else:
                h = self._gate(index, x) * h
        sums = torch.addmm(F.linear(x, self.weight_ih, self.bias), h, self.weight_hh.t())
        i, f, g, o = sums.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h, c), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            for matrix in (*self.left, *(self.right or ())):
                glorot_blocks_(matrix, 1)
            glorot_blocks_(self.weight_ih, 4)
            orthogonal_blocks_(self.weight_hh, 4)
            self.bias.zero_()
            i, f, _, _ = self.bias.chunk(4)
            forget_gate_(self.init, self.max_lag, f, i)

    def kernel_weights(self) -> list[Tensor]:
        """`Q_1 (I, H), R_2 (H, I), Q_3, ...`, `weight_ih` (4 H, I), `weight_hh` (4 H, H), `bias` (4 H)."""
        return [] if self.kernel is None else [*self.left, self.weight_ih, self.weight_hh, self.bias]

    def _gate(self, index: int, by: Tensor) -> Tensor:
        """2 sigmoid(Q by), or R in place of Q: near 1 where the matrix is small, so that depth costs no signal."""
        if self.right is not None:
            by = F.linear(by, self.right[index])
        return 2 * torch.sigmoid(F.linear(by, self.left[index]))
