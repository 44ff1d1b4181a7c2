"""What single steps show: singular values of their Jacobians, saturation, and the recurrent matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.cell import GRU, LSTM, Cell, Elman
from throughtime.measurement.jacobian import Activation
from throughtime.measurement.jacobian_trajectory import Trajectory

__all__ = ["saturation", "spectral_radius", "step_singular_values"]

_MOST_JACOBIANS = 64
_MOST_WORK = 5e9  # in cubes of D: about a minute for the SVDs of a layer, on one core

_WIDEST_MATRIX = 2048

_GATES = {GRU: ("r", "z", "n"), LSTM: ("i", "f", "g", "o")}


def step_singular_values(run: Trajectory, k: int) -> tuple[tuple[tuple[float, ...], ...], float | None, int]:
    """Quartiles of the k largest singular values of step Jacobians, at steps spread evenly over each sequence.

    Returns:
        Three tuples (k,), for 25, 50 and 75 %; the mean square of all D singular values; how many Jacobians there
        were. Empty, None and 0 where D is too large.
    """
    num_wanted = min(_MOST_JACOBIANS, int(_MOST_WORK / run.state_size**3))
    if not num_wanted:
        return (), None, 0
    num_times = max(1, num_wanted // run.counted.numel())
    found = []
    for step in sorted(set(torch.linspace(0, run.num_steps - 1, num_times).round().long().tolist())):
        rows = (step < run.counted).nonzero().flatten()[:num_wanted]
        found.append(torch.linalg.svdvals(run.linearised(step).jacobian()[rows]))
    values = torch.cat(found)
    levels = torch.tensor([0.25, 0.5, 0.75])
    quartiles = torch.quantile(values[:, :k], levels, dim=0)
    return tuple(tuple(level) for level in quartiles.tolist()), values.square().mean().item(), len(values)


@dataclass(frozen=True)
class Saturation:
    """Where units and gates stand, by name; empty for cells whose gates are not known.

    Attributes:
        shares: at the lower and at the upper end, over units, steps and sequences.
        by_step: the same at each step, over units and those sequences that have not ended.
        stuck: share of the units that are at either end at every step of every sequence.
        functions: "tanh", "sigmoid" or "relu".
        means: of the absolute values.
    """

    shares: dict[str, tuple[float, float]]
    by_step: dict[str, tuple[tuple[float, float], ...]]
    stuck: dict[str, float]
    functions: dict[str, str]
    means: dict[str, float]


def saturation(run: Trajectory) -> Saturation:
    """Where units and gates have less than a tenth of the largest slope of their function."""
    low: dict[str, Tensor] = {}
    high: dict[str, Tensor] = {}
    size: dict[str, Tensor] = {}
    functions: dict[str, str] = {}
    by_step: dict[str, list[tuple[float, float]]] = {}
    for step in range(run.num_steps):
        counts = step < run.counted
        for name, activation in run.linearised(step).activations.items():
            functions[name] = activation.function
            at_low, at_high = (end[counts] for end in _ends(activation))
            by_step.setdefault(name, []).append((at_low.double().mean().item(), at_high.double().mean().item()))
            low[name] = low.get(name, torch.zeros(())) + at_low.sum(0)
            high[name] = high.get(name, torch.zeros(())) + at_high.sum(0)
            size[name] = size.get(name, torch.zeros(())) + activation.values[counts].abs().sum(0)
    total = int(run.counted.sum())
    return Saturation(
        {name: ((low[name].mean() / total).item(), (high[name].mean() / total).item()) for name in low},
        {name: tuple(shares) for name, shares in by_step.items()},
        {name: (low[name] + high[name] == total).double().mean().item() for name in low},
        functions,
        {name: (size[name].mean() / total).item() for name in size},
    )


def spectral_radius(cell: Cell) -> dict[str, float]:
    """Largest |eigenvalue| of the recurrent matrix, or of each gate's, times W_hr where there is a projection.

    Empty for cells that have no such matrix, and where H is above 2048.
    """
    if not isinstance(cell, Elman | GRU | LSTM) or cell.hidden_size > _WIDEST_MATRIX:
        return {}
    weight = cell.weight_hh.detach()
    if cell.weight_hr is not None:
        weight = weight @ cell.weight_hr.detach()
    names = _GATES.get(type(cell), ("h",))
    blocks = zip(names, weight.chunk(len(names)), strict=True)
    return {name: torch.linalg.eigvals(block).abs().max().item() for name, block in blocks}


def _ends(activation: Activation) -> tuple[Tensor, Tensor]:
    """Whether each unit is at the lower and at the upper end."""
    values = activation.values
    if activation.function == "tanh":
        bound = math.sqrt(0.9)  # 1 - tanh^2 < 1 / 10
        return values < -bound, values > bound
    if activation.function == "sigmoid":
        bound = (1 + math.sqrt(0.9)) / 2  # s (1 - s) < 1 / 40
        return values < 1 - bound, values > bound
    return values <= 0, torch.zeros_like(values, dtype=torch.bool)
