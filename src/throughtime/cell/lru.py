"""The linear recurrent unit: a complex diagonal recurrence."""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.cell.diagonal import DiagonalCell
from throughtime.cell.initialisation import glorot_blocks_
from throughtime.check import one_of
from throughtime.errors import RecipeError

__all__ = ["LRU"]


@final
class LRU(DiagonalCell):
    r"""A linear recurrence of H complex units, each with an eigenvalue of its own inside the unit circle.

        lambda = exp(-exp(nu) + i exp(theta)),    |lambda| < 1 whatever nu
        h_t = lambda * h_{t-1} + exp(gamma) * (B x_t)
        y_t = Re(C h_t) + D x_t,    output y_t

    The gradient through k steps is lambda^k: what a unit remembers can be read off. The state is (h,): real parts and
    then imaginary parts, (B, 2 H). Linear in its state; what is nonlinear has to lie between layers.

    *Reference*: Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu & De 2023, *Resurrecting recurrent neural networks for
    long sequences*, arXiv:2303.06349, section 3.

    Departures: D is a full matrix, since I and H may differ; the layer alone, without the paper's normalisation, gated
    linear unit and skip around it.

    Initialisation ("ring"): lambda uniform in the ring between `r_min` and `r_max`, with phases uniform up to
    `max_phase`; gamma = log sqrt(1 - |lambda|^2), which gives every unit about the variance of its input; real and
    imaginary parts of B with deviation 1/sqrt(2 I), of C with 1/sqrt(H); D Glorot.

    Args:
        input_size: I.
        hidden_size: H, complex units and outputs.
        r_min: the least |lambda|, at least 0.
        r_max: the largest |lambda|, above r_min and below 1.
        max_phase: of lambda in radians, above 0 and at most 2 pi. A small one lets long sequences start without
            oscillations.
        init: "ring".

    Raises:
        RecipeError: if `init` is unknown, a size is below 1, or a number is out of range.

    Example:
        >>> cell = LRU(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape, h.shape
        (torch.Size([2, 5]), torch.Size([2, 10]))
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("ring",)
    complex_state: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 2 * math.pi,
        init: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("init of lru", self.inits[0] if init is None else init, self.inits)
        if not 0 <= r_min < r_max < 1:
            raise RecipeError(f"the ring needs 0 <= r_min < r_max < 1, not r_min={r_min:g} and r_max={r_max:g}")
        if not 0 < max_phase <= 2 * math.pi:
            raise RecipeError(f"max_phase must lie above 0 and be at most 2 pi, not {max_phase:g}")
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        self.log_decay = nn.Parameter(torch.empty(hidden_size))
        self.log_phase = nn.Parameter(torch.empty(hidden_size))
        self.log_gain = nn.Parameter(torch.empty(hidden_size))
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.weight_ho = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))
        self.weight_io = nn.Parameter(torch.empty(hidden_size, input_size))
        self.reset_parameters()

    def eigenvalues(self) -> Tensor:
        """Lambda: H real parts and then H imaginary parts, (2 H,)."""
        size, phase = torch.exp(-torch.exp(self.log_decay)), torch.exp(self.log_phase)
        return torch.cat([size * torch.cos(phase), size * torch.sin(phase)])

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """Zeros (B, 2 H)."""
        return (self._zeros(batch, 2 * self.hidden_size, device, dtype),)

    def project(self, x: Tensor) -> Tensor:
        """B x, real and imaginary, and D x: (T, B, I) -> (T, B, 3 H)."""
        return F.linear(x, torch.cat([self.weight_ih, self.weight_io]))

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Lambda (2 H,) and exp(gamma) * (B x), (..., 2 H)."""
        gain = torch.exp(self.log_gain)
        return self.eigenvalues(), torch.cat([gain, gain]) * projected[..., : 2 * self.hidden_size]

    def readout(self, h: Tensor, projected: Tensor) -> Tensor:
        """Re(C h) + D x, (..., H)."""
        return F.linear(h, self.weight_ho) + projected[..., 2 * self.hidden_size :]

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with torch.no_grad():
            squares = nn.init.uniform_(self.log_decay, self.r_min**2, self.r_max**2).clamp_(min=1e-12)
            self.log_gain.copy_(torch.log1p(-squares) / 2)
            self.log_decay.copy_(torch.log(-torch.log(squares) / 2))
            nn.init.uniform_(self.log_phase, 0, self.max_phase).clamp_(min=1e-12).log_()
            nn.init.normal_(self.weight_ih, std=(2 * self.input_size) ** -0.5)
            nn.init.normal_(self.weight_ho, std=self.hidden_size**-0.5)
            glorot_blocks_(self.weight_io, 1)
