"""Parameters named and laid out as in torch.nn.RNN, GRU and LSTM, so that conversion is a copy."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from throughtime.cell.base import Cell
from throughtime.cell.initialisation import glorot_blocks_, orthogonal_blocks_, torch_uniform_
from throughtime.check import one_of

__all__ = ["TorchLayoutCell"]


class TorchLayoutCell(Cell):
    """A cell that holds `weight_ih` (blocks * H, I), `weight_hh` (blocks * H, H), `bias_ih` and `bias_hh` (blocks * H).

    Its first initialisation draws Glorot input blocks, orthogonal recurrent blocks and zero biases, to which the cell
    adds what is its own; "torch" draws all of it as `torch.nn` does.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases at all.
        proj_size: P, features to which the output is projected by `weight_hr` (P, H), recurrent too; 0 for none.
        init: one of `inits`; the first unless given.

    Attributes:
        num_blocks: how many matrices (one for each gate) are stacked in a weight.

    Raises:
        RecipeError: if `init` is unknown or a size is below 1.
    """

    num_blocks: ClassVar[int]

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None
    weight_hr: nn.Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, proj_size: int = 0, init: str | None = None
    ) -> None:
        super().__init__(input_size, hidden_size, output_size=proj_size or hidden_size)
        what = f"init of {type(self).__name__.lower()}"
        self.init = self.inits[0] if init is None else one_of(what, init, self.inits)
        rows = self.num_blocks * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, self.output_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(rows)) if bias else None
        self.weight_hr = nn.Parameter(torch.empty(proj_size, hidden_size)) if proj_size else None
        self.reset_parameters()

    @abstractmethod
    def adjust_start(self) -> None:
        """What the cell's own initialisation adds to Glorot, orthogonal and zero; called without gradients."""

    def reset_parameters(self) -> None:
        """Draw all parameters anew, by the initialisation chosen at construction."""
        with torch.no_grad():
            if self.init == "torch":
                torch_uniform_(self.parameters(), self.hidden_size)
                return
            glorot_blocks_(self.weight_ih, self.num_blocks)
            orthogonal_blocks_(self.weight_hh, self.num_blocks)
            for bias in (self.bias_ih, self.bias_hh):
                if bias is not None:
                    bias.zero_()
            if self.weight_hr is not None:
                glorot_blocks_(self.weight_hr, 1)
            self.adjust_start()

    def torch_weights(self) -> list[Tensor]:
        """`weight_ih, weight_hh, bias_ih, bias_hh, weight_hr`, without those that are absent."""
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_hr)
        return [weight for weight in weights if weight is not None]

    def both_biases(self) -> Tensor | None:
        """`bias_ih + bias_hh` (blocks * H), for cells in which both are merely added."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
