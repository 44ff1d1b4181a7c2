"""The linear map of one step: Jacobian-vector products, analytic where the equations are known, else by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from throughtime.cell import GRU, LSTM, Cell, Elman
from throughtime.measurement.jacobian_autograd import autograd_products

__all__ = ["Activation", "Linearised", "flat", "linearise", "parts_like"]

_LSTM_GATES = (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)  # i, f, g, o

State = tuple[Tensor, ...]
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """What one nonlinearity of a step gave.

    Attributes:
        function: "tanh", "sigmoid" or "relu".
        values: (B, H), after the function.
    """

    function: str
    values: Tensor


@dataclass(frozen=True)
class Linearised:
    """One step at one state, and its Jacobian J = d state_t / d state_(t-1), the parts of a state one after the other.

    Attributes:
        state: after the step.
        output: (B, output_size).
        product: columns (B, D, k) -> J @ columns.
        transposed: columns (B, D, k) -> J^T @ columns.
        activations: by the name of the unit or gate; empty for cells whose equations are not known here.
    """

    state: State
    output: Tensor
    product: Product
    transposed: Product
    activations: Mapping[str, Activation] = field(default_factory=dict)

    def jacobian(self) -> Tensor:
        """J itself, (B, D, D): row i the new state's feature i, column j the old one's feature j."""
        state = flat(self.state)
        identity = torch.eye(state.size(1), dtype=state.dtype, device=state.device)
        return self.product(identity.expand(state.size(0), -1, -1))


def flat(state: Sequence[Tensor]) -> Tensor:
    """All parts of a state one after the other, (B, D)."""
    return torch.cat([part.flatten(1) for part in state], dim=1)


def parts_like(flattened: Tensor, like: Sequence[Tensor]) -> State:
    """The parts of a state from (rows, D), each shaped as in `like` but for the number of rows."""
    pieces = torch.split(flattened, [part.shape[1:].numel() for part in like], dim=1)
    return tuple(torch.unflatten(piece, 1, part.shape[1:]) for piece, part in zip(pieces, like, strict=True))


def linearise(cell: Cell, projected: Tensor, state: State) -> Linearised:
    """One step of `cell` and the products with its Jacobian at `state`.

    Elman, GRU and LSTM cells have it in closed form, with one matrix product for all columns; any other cell by
    forward-mode differentiation of `step`. The cell must treat each row of the batch by itself.

    Args:
        cell: whose step.
        projected: (B, G), from `cell.project`.
        state: before the step.

    Returns:
        The step, linearised.

    Example:
        >>> cell = Elman(3, 5).double()
        >>> projected, state = torch.zeros(2, 5, dtype=torch.float64), cell.initial_state(2)
        >>> torch.equal(linearise(cell, projected, state).jacobian()[0], cell.weight_hh)
        True
    """
    with torch.no_grad():
        if isinstance(cell, Elman):
            return _elman(cell, projected, state)
        if isinstance(cell, GRU):
            return _gru(cell, projected, state)
        if isinstance(cell, LSTM):
            return _lstm(cell, projected, state)
        after, output = cell.step(projected, state)

    def step(rows: Tensor, flattened: Tensor) -> Tensor:
        return flat(cell.step(rows, parts_like(flattened, state))[0])

    product, transposed = autograd_products(step, projected, flat(state))
    return Linearised(after, output, product, transposed)


def _elman(cell: Elman, projected: Tensor, state: State) -> Linearised:
    """J = diag(f'(a)) W_hh."""
    after, h = cell.step(projected, state)
    slope = (1 - h * h if cell.nonlinearity == "tanh" else (h > 0).to(h.dtype)).unsqueeze(2)
    weight = cell.weight_hh.detach()
    return Linearised(
        after,
        h,
        lambda columns: slope * (weight @ columns),
        lambda columns: weight.t() @ (slope * columns),
        {"h": Activation(cell.nonlinearity, h)},
    )


def _gru(cell: GRU, projected: Tensor, state: State) -> Linearised:
    """J = diag(by_r) W_hr + diag(by_z) W_hz + diag(by_n) W_hn + diag(z)."""
    (h,) = state
    input_r, input_z, input_n = projected.chunk(3, dim=1)
    hidden_r, hidden_z, hidden_n = torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
    n = torch.tanh(input_n + r * hidden_n)
    by_n = (1 - z) * (1 - n * n)
    slopes = torch.stack([by_n * hidden_n * r * (1 - r), (h - n) * z * (1 - z), by_n * r], dim=1).unsqueeze(3)
    kept, weight = z.unsqueeze(2), cell.weight_hh.detach()

    def product(columns: Tensor) -> Tensor:
        return (slopes * torch.unflatten(weight @ columns, 1, (3, -1))).sum(1) + kept * columns

    def transposed(columns: Tensor) -> Tensor:
        return weight.t() @ (slopes * columns.unsqueeze(1)).flatten(1, 2) + kept * columns

    after, output = cell.step(projected, state)
    gates = {"r": Activation("sigmoid", r), "z": Activation("sigmoid", z), "n": Activation("tanh", n)}
    return Linearised(after, output, product, transposed, gates)


def _lstm(cell: LSTM, projected: Tensor, state: State) -> Linearised:
    """With m = o * tanh(c_t), which h_t is or is projected from, and a the sums that the gates are functions of.

    dc_t = f * dc_(t-1) + by_c * da,    dm = o * (1 - tanh(c_t)^2) * dc_t + tanh(c_t) * o * (1 - o) * da_o
    """
    h, c = state
    sums = torch.addmm(projected, h, cell.weight_hh.t())
    i, f, g, o = (function(a) for function, a in zip(_LSTM_GATES, sums.chunk(4, dim=1), strict=True))
    after, output = cell.step(projected, state)
    tanh_c = torch.tanh(after[1])
    to_c = torch.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)], dim=1).unsqueeze(3)  # da_i, da_f, da_g
    to_m = (tanh_c * o * (1 - o)).unsqueeze(2)  # da_o
    kept, shown = f.unsqueeze(2), (o * (1 - tanh_c * tanh_c)).unsqueeze(2)
    weight = cell.weight_hh.detach()
    projection = None if cell.weight_hr is None else cell.weight_hr.detach()
    num_h = h.size(1)

    def product(columns: Tensor) -> Tensor:
        d_sums = torch.unflatten(weight @ columns[:, :num_h], 1, (4, -1))
        d_c = kept * columns[:, num_h:] + (to_c * d_sums[:, :3]).sum(1)
        d_m = shown * d_c + to_m * d_sums[:, 3]
        return torch.cat([d_m if projection is None else projection @ d_m, d_c], dim=1)

    def transposed(columns: Tensor) -> Tensor:
        d_m = columns[:, :num_h] if projection is None else projection.t() @ columns[:, :num_h]
        d_c = columns[:, num_h:] + shown * d_m
        d_sums = torch.cat([(to_c * d_c.unsqueeze(1)).flatten(1, 2), to_m * d_m], dim=1)
        return torch.cat([weight.t() @ d_sums, kept * d_c], dim=1)

    gates = {name: Activation("sigmoid", gate) for name, gate in (("i", i), ("f", f), ("o", o))}
    shapes = {"g": Activation("tanh", g), "tanh(c)": Activation("tanh", tanh_c)}
    return Linearised(after, output, product, transposed, gates | shapes)
