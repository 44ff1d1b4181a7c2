"""The plain recurrent cell."""

from __future__ import annotations

from typing import ClassVar, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.mean_field import critical_gain
from throughtime.cell.torch_layout import TorchLayoutCell
from throughtime.check import one_of
from throughtime.kernels.spec import KernelSpec

__all__ = ["NONLINEARITIES", "Elman"]

NONLINEARITIES: Final = {"tanh": torch.tanh, "relu": torch.relu}

_IDENTITY_INPUT_DEVIATION = 0.001


@final
class Elman(TorchLayoutCell):
    r"""The plain recurrent cell, with f = tanh or ReLU.

        h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),    output h_t

    *Reference*: Elman 1990, *Finding structure in time*, Cognitive Science 14(2), doi:10.1207/s15516709cog1402_1; with
    ReLU and the start "identity" it is the IRNN of Le, Jaitly & Hinton 2015, *A simple way to initialize recurrent
    networks of rectified linear units*, arXiv:1504.00941.

    Departures: tanh or ReLU in place of the logistic function; the gradient goes through time instead of stopping at
    the context units; two biases (one would do), as in `torch.nn.RNN`.

    Initialisations, biases zero in all but the last:

    - "orthogonal" (default): W_hh orthogonal, W_ih Glorot;
    - "identity": W_hh = 1, W_ih Gaussian with deviation 0.001;
    - "critical": W_hh Gaussian with deviation sigma_w / sqrt(H), at the edge of chaos of `throughtime.cell.mean_field`
      for inputs of independent features of variance 1; W_ih Glorot;
    - "torch": everything uniform in ±1/sqrt(H).

    Kernels: "elman_tanh" or "elman_relu", with weights [weight_hh (H, H)].

    Args:
        input_size: I.
        hidden_size: H.
        nonlinearity: f, "tanh" or "relu".
        bias: whether there are biases at all.
        init: "orthogonal", "identity", "critical" or "torch".

    Raises:
        RecipeError: if `init` or `nonlinearity` is unknown or a size is below 1.

    Example:
        >>> cell = Elman(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("orthogonal", "identity", "critical", "torch")
    num_blocks: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        init: str | None = None,
    ) -> None:
        self.nonlinearity = one_of("nonlinearity of elman", nonlinearity, NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias=bias, init=init)
        self.torch_kernel = f"rnn_{nonlinearity}"
        self.kernel = KernelSpec(f"elman_{nonlinearity}")

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih + b_hh: (T, B, I) -> (T, B, H)."""
        return F.linear(x, self.weight_ih, self.both_biases())

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H), (h,) -> (h,), h."""
        (h,) = state
        h = NONLINEARITIES[self.nonlinearity](torch.addmm(projected, h, self.weight_hh.t()))
        return (h,), h

    def adjust_start(self) -> None:
        """What "identity" and "critical" do to the weights."""
        if self.init == "identity":
            nn.init.eye_(self.weight_hh)
            nn.init.normal_(self.weight_ih, std=_IDENTITY_INPUT_DEVIATION)
        elif self.init == "critical":
            input_variance = 2 * self.input_size / (self.input_size + self.hidden_size)  # of Glorot's weights
            gain = critical_gain(self.nonlinearity, input_variance)
            nn.init.normal_(self.weight_hh, std=gain / self.hidden_size**0.5)

    def kernel_weights(self) -> list[Tensor]:
        """`weight_hh` (H, H)."""
        return [self.weight_hh]

    def extra_repr(self) -> str:
        """The sizes and the nonlinearity, for `print`."""
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")
