"""The recurrent cell whose matrix stays orthogonal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

from throughtime.cell.base import Cell
from throughtime.cell.elman import NONLINEARITIES
from throughtime.cell.initialisation import glorot_blocks_
from throughtime.check import one_of
from throughtime.kernels.spec import KernelSpec

__all__ = ["OrthogonalRNN"]


@final
class OrthogonalRNN(Cell):
    r"""An Elman cell whose recurrent matrix is orthogonal at every step of training, not at the start alone.

        h_t = f(W_ih x_t + b + Q h_{t-1}),    Q^T Q = 1,    output h_t

    Q neither shrinks nor stretches a gradient; what is lost is lost in f. Q = Q_0 (1 + A/2) (1 - A/2)^-1 with A
    antisymmetric, the Cayley transform: torch's own parametrisation, so optimizers see ordinary numbers and nothing is
    projected back. It reaches all but those rotations that turn something around entirely, at a sixth of the cost of
    the matrix exponential, which reaches these too.

    *References*: Helfrich, Willmott & Ye 2018, *Orthogonal recurrent neural networks with scaled Cayley transform*,
    arXiv:1707.09520; Lezcano-Casado & Martínez-Rubio 2019, *Cheap orthogonal constraints in neural networks*,
    arXiv:1901.08428.

    Departures: tanh or ReLU in place of modReLU; Q_0 in place of the first paper's scaling matrix.

    Initialisation: Q uniform over the orthogonal matrices, W_ih Glorot, b zero.

    Kernels: "elman_tanh" or "elman_relu", with weights [Q (H, H)].

    Args:
        input_size: I.
        hidden_size: H.
        nonlinearity: f, "tanh" or "relu".
        init: "orthogonal".

    Raises:
        RecipeError: if `init` or `nonlinearity` is unknown or a size is below 1.

    Example:
        >>> cell = OrthogonalRNN(3, 5)
        >>> (h,), y = cell.step(cell.project(torch.ones(1, 2, 3))[0], cell.initial_state(2))
        >>> y.shape
        torch.Size([2, 5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    inits: ClassVar[tuple[str, ...]] = ("orthogonal",)

    def __init__(
        self, input_size: int, hidden_size: int, *, nonlinearity: str = "tanh", init: str | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("init of orthogonal", self.inits[0] if init is None else init, self.inits)
        self.nonlinearity = one_of("nonlinearity of orthogonal", nonlinearity, NONLINEARITIES)
        self.kernel = KernelSpec(f"elman_{nonlinearity}")
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.recurrence = orthogonal(nn.Linear(hidden_size, hidden_size, bias=False), orthogonal_map="cayley")
        self.reset_parameters()

    def matrix(self) -> Tensor:
        """Q, (H, H); computed anew by each call, but inside `torch.nn.utils.parametrize.cached`."""
        return cast(Tensor, self.recurrence.weight)

    def project(self, x: Tensor) -> Tensor:
        """W_ih x + b: (T, B, I) -> (T, B, H)."""
        return F.linear(x, self.weight_ih, self.bias)

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, H), (h,) -> (h,), h."""
        (h,) = state
        h = NONLINEARITIES[self.nonlinearity](torch.addmm(projected, h, self.matrix().t()))
        return (h,), h

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        with torch.no_grad():
            glorot_blocks_(self.weight_ih, 1)
            self.bias.zero_()
            self.recurrence.weight = nn.init.orthogonal_(torch.empty_like(self.matrix()))

    def kernel_weights(self) -> list[Tensor]:
        """Q (H, H)."""
        if torch.compiler.is_compiling() or not parametrize.is_parametrized(self.recurrence, "weight"):
            return [self.matrix()]
        found = cast(Any, self.recurrence).parametrizations.weight
        if len(found) != 1:  # a user's own came on top
            return [self.matrix()]
        run: Callable[..., Tensor] = _Cayley.apply
        return [run(found.original, found[0].base)]


class _Cayley(torch.autograd.Function):
    """The numbers of torch's parametrisation, with a shorter way back.

    Q = Q_0 M with M = (1 + A/2) (1 - A/2)^-1 = 2 S - 1, S = (1 - A/2)^-1, A = L - L^T, L the lower triangle of X. From
    dS = S dA/2 S the gradient by A is S^T (Q_0^T d_Q) S^T, and no second system of equations has to be solved for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor) -> Tensor:
        """X, Q_0 -> Q."""
        lower, one = x.tril(), torch.eye(x.size(0), dtype=x.dtype, device=x.device)
        skew = lower - lower.t()
        rotation = torch.linalg.solve(torch.add(one, skew, alpha=-0.5), torch.add(one, skew, alpha=0.5))
        ctx.save_for_backward(rotation, base)
        matrix: Tensor = base @ rotation
        return matrix

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_matrix: Tensor) -> tuple[Tensor, None]:
        """d_Q -> d_X; Q_0 is no parameter."""
        rotation, base = ctx.saved_tensors
        twice = rotation.clone()  # 2 S
        twice.diagonal().add_(1)
        d_skew = twice.t() @ (base.t() @ d_matrix) @ twice.t()  # four times too much
        return (d_skew - d_skew.t()).mul_(0.25).tril_(), None
