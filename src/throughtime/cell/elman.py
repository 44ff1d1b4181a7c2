"""The plain recurrent cell."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from throughtime.cell.torch_layout import TorchLayoutCell

__all__ = ["Elman"]


@final
class Elman(TorchLayoutCell):
    r"""The plain recurrent cell with tanh units.

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),    output h_t

    *Reference*: Elman 1990, *Finding structure in time*, Cognitive Science 14(2), doi:10.1207/s15516709cog1402_1.

    Departures: tanh in place of the logistic function; the gradient goes through time instead of stopping at the
    context units; two biases (one would do), as in `torch.nn.RNN`.

    Initialisations: "orthogonal" (default: orthogonal W_hh, Glorot W_ih, zero biases) and "torch" (±1/sqrt(H)).

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases at all.
        init: "orthogonal" or "torch".

    Raises:
        RecipeError: if `init` is unknown or a size is below 1.

    Example:
        >>> cell = Elman(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("orthogonal", "torch")
    torch_kernel: ClassVar[str | None] = "rnn_tanh"
    num_blocks: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, init: str | None = None) -> None:
        super().__init__(input_size, hidden_size, bias=bias, init=init)

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih + b_hh: (T, B, I) -> (T, B, H)."""
        return F.linear(x, self.weight_ih, self.both_biases())

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H), (h,) -> (h,), h."""
        (h,) = state
        h = torch.tanh(torch.addmm(projected, h, self.weight_hh.t()))
        return (h,), h

    def adjust_start(self) -> None:
        """Nothing to add."""
