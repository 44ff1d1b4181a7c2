"""The way back through a loop is linear: what scale, depth and gates make of a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from throughtime.cell import LSTM, Cell, make_cell
from throughtime.layer import Recurrent
from throughtime.measurement import GradientRecord, measure
from throughtime.workflow.why_record import Answer, Chart, Curve, Table

__all__ = ["gates", "way_back"]

SCALES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5)
DEPTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
_HIDDEN, _SEQUENCES = 32, 4
_LINEAR_TOLERANCE = 1e-12
"""In log10 and a step."""


class ScaledLoop(Cell):
    """h_t = f(x_t + scale Q h_(t-1)) with Q orthogonal: Q turns, `scale` alone shrinks or stretches."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, size: int, scale: float, *, linear: bool) -> None:
        super().__init__(size, size)
        self.scale, self.through_tanh = scale, not linear
        self.weight = nn.Parameter(torch.empty(size, size, dtype=torch.float64))  # as exact as its law
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Q anew."""
        nn.init.orthogonal_(self.weight)

    def project(self, x: Tensor) -> Tensor:
        """The input as it is."""
        return x

    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step."""
        total = projected + self.scale * state[0] @ self.weight.t()
        h = torch.tanh(total) if self.through_tanh else total
        return (h,), h


class _Outputs(nn.Module):
    """What a layer says at each step, without its last state."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x)[0])


def way_back(
    seed: int, scales: tuple[float, ...] = SCALES, depths: tuple[int, ...] = DEPTHS, hidden_size: int = _HIDDEN
) -> Answer:
    """The gradient after 5 to 1,000 steps, for weights of several scales, beside scale^k."""
    found = {
        (scale, linear): _at(depths, partial(ScaledLoop, hidden_size, scale, linear=linear), seed)
        for scale in scales
        for linear in (True, False)
    }
    errors = [
        abs(cast(float, value) - depth * math.log10(scale))
        for scale in scales
        for depth, value in zip(depths, found[scale, True], strict=True)
    ]
    numbers = {
        "least_scale": scales[0],
        "largest_scale": scales[-1],
        "deepest": float(depths[-1]),
        "log10_least": cast(float, found[scales[0], True][-1]),
        "log10_largest": cast(float, found[scales[-1], True][-1]),
        "worst_difference": max(errors),
        "agrees": float(max(errors) < _LINEAR_TOLERANCE * depths[-1]),
        "log10_tanh_at_one": found[min(scales, key=lambda scale: abs(scale - 1)), False][-1] or -math.inf,
    }
    curves = tuple(Curve(f"tanh, {scale:g}", depths, found[scale, False]) for scale in scales)
    chart = Chart("steps back", "log10 of the gradient", curves, log_x=True)
    columns = ("scale", "log10 of the gradient", *(f"after {depth:,}" for depth in depths))
    rows = tuple(
        (scale, "linear" if linear else "tanh", *map(_rounded, values)) for (scale, linear), values in found.items()
    )
    return Answer("way-back", numbers, Table(columns, rows), chart)


def gates(seed: int, num_steps: int = 400, hidden_size: int = 64) -> Answer:
    """How fast the gradient fades in untrained cells, without gates and with them."""
    kinds: dict[str, Callable[[], Cell]] = {
        "plain, torch's start": partial(make_cell, "elman", 8, hidden_size, init="torch"),
        "plain, orthogonal": partial(make_cell, "elman", 8, hidden_size),
        "GRU": partial(make_cell, "gru", 8, hidden_size),
        "LSTM, torch's start": partial(make_cell, "lstm", 8, hidden_size, init="torch"),
        "LSTM, forget bias 1": partial(make_cell, "lstm", 8, hidden_size),
        "LSTM, chrono": partial(LSTM, 8, hidden_size, init="chrono", max_lag=num_steps),
    }
    found = {name: _measured(make, num_steps, 1.0, seed) for name, make in kinds.items()}
    rows = tuple(
        (name, record.decay_per_step, record.reach, record.log10_gradient[-1]) for name, record in found.items()
    )
    plain, best = found["plain, torch's start"], found["LSTM, chrono"]
    numbers = {
        "num_steps": float(num_steps),
        "plain_decay": cast(float, plain.decay_per_step),
        "plain_reach": float(cast(int, plain.reach)),
        "gated_decay": cast(float, best.decay_per_step),
        "gated_reach": float(cast(int, best.reach)),
    }
    lags = tuple(lag for lag in range(num_steps) if lag % max(1, num_steps // 60) == 0)
    curves = tuple(
        Curve(name, lags, tuple(record.log10_gradient[lag] for lag in lags)) for name, record in found.items()
    )
    columns = ("cell", "factor a step", "reach (steps)", f"left after {num_steps - 1} steps (log10)")
    return Answer("gates", numbers, Table(columns, rows), Chart("steps back", "log10 of the gradient", curves))


def _at(depths: tuple[int, ...], make: Callable[[], Cell], seed: int) -> tuple[float | None, ...]:
    record = _measured(make, depths[-1] + 1, 0.1, seed)
    return tuple(record.log10_gradient[depth] for depth in depths)


def _measured(make: Callable[[], Cell], num_steps: int, size: float, seed: int) -> GradientRecord:
    """The gradient from the last step to the first, for inputs of deviation `size`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        cell = make()
        x = size * torch.randn(num_steps, _SEQUENCES, cell.input_size, dtype=next(cell.parameters()).dtype)
        direction = torch.randn(_SEQUENCES, cell.output_size)
    model = _Outputs(Recurrent(cell, cell.input_size, cell.hidden_size))
    return measure(model, x, direction, lambda y, by: (y[-1] * by.to(y)).sum(-1), time_dim=0, batch_dim=1, seed=seed)


def _rounded(value: float | None) -> float | None:
    """Without the rounding errors of a thousand steps; -0 as 0."""
    return None if value is None else round(value, 6) + 0.0
