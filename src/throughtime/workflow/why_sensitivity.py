"""Long memory is hard even where nothing explodes: how the loss answers to a weight that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.cell import DiagonalCell
from throughtime.layer import Recurrent
from throughtime.workflow.why_record import Answer, Chart, Curve, Table

__all__ = ["sensitivity"]

DISTANCES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""1 - lambda: how far an eigenvalue is from the circle."""

_NUDGE = 0.01
"""Of the distance: by how much lambda is moved."""
_MEMORIES = 20
"""A sequence is so many times 1 / (1 - lambda) long, and as much again comes before it counts."""
_SEQUENCES = 16


class _Units(DiagonalCell):
    """h_t = lambda h_(t-1) + gain x_t, each unit on its own."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, eigenvalues: Tensor, gain: float) -> None:
        super().__init__(1, eigenvalues.numel())
        self.eigenvalues, self.gain = eigenvalues, gain

    def reset_parameters(self) -> None:
        """There is nothing to draw."""

    def project(self, x: Tensor) -> Tensor:
        """The input, for each unit."""
        return self.gain * x.expand(*x.shape[:-1], self.hidden_size)

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Lambda and the input."""
        return self.eigenvalues, projected


@dataclass(frozen=True)
class _Form:
    """How a unit's eigenvalue is written as a number that is learned."""

    name: str
    normalised: bool
    logarithmic: bool

    def gain(self, eigenvalue: float) -> float:
        return math.sqrt(1 - eigenvalue**2) if self.normalised else 1.0

    def moved(self, eigenvalue: float) -> tuple[tuple[float, float, float], float]:
        """The eigenvalue, one a little smaller and one a little larger; and how far apart in what is learned."""
        if not self.logarithmic:
            step = _NUDGE * (1 - eigenvalue)
            return (eigenvalue, eigenvalue - step, eigenvalue + step), step
        nu = math.log(-math.log(eigenvalue))
        return (eigenvalue, math.exp(-math.exp(nu + _NUDGE)), math.exp(-math.exp(nu - _NUDGE))), _NUDGE


FORMS = (
    _Form("lambda learned", normalised=False, logarithmic=False),
    _Form("input scaled", normalised=True, logarithmic=False),
    _Form("as in an LRU", normalised=True, logarithmic=True),
)


def sensitivity(seed: int, distances: tuple[float, ...] = DISTANCES) -> Answer:
    """The curvature of the loss along what is learned, as the eigenvalue of a linear unit comes close to 1."""
    curvatures = {form.name: tuple(_curvature(form, 1 - distance, seed) for distance in distances) for form in FORMS}
    memory = tuple(1 / distance for distance in distances)
    plain, _, written = curvatures.values()
    law = tuple(_law(1 - distance) for distance in distances)
    rows = tuple(
        (1 - distance, steps, expected, *(values[index] for values in curvatures.values()), 2 / plain[index])
        for index, (distance, steps, expected) in enumerate(zip(distances, memory, law, strict=True))
    )
    numbers = {
        "shortest_memory": memory[0],
        "longest_memory": memory[-1],
        "growth": plain[-1] / plain[0],
        "exponent": math.log(plain[-1] / plain[-3]) / math.log(memory[-1] / memory[-3]),
        "written_growth": max(written) / min(written),
        "worst_ratio": max(max(m / e, e / m) for m, e in zip(plain, law, strict=True)),
        "safe_rate_short": 2 / plain[0],
        "safe_rate_long": 2 / plain[-1],
    }
    curves = tuple(
        Curve(name, memory, tuple(math.log10(value) for value in values)) for name, values in curvatures.items()
    )
    columns = (
        "lambda",
        "memory",
        "curvature by theory",
        *(f"curvature, {form.name}" for form in FORMS),
        "largest stable rate",
    )
    chart = Chart("memory in steps, 1 / (1 - lambda)", "log10 of the curvature", curves, log_x=True)
    return Answer("sensitivity", numbers, Table(columns, rows), chart)


def _law(eigenvalue: float) -> float:
    """E (dh/dlambda)^2 for white noise of variance 1."""
    return (1 + eigenvalue**2) / (1 - eigenvalue**2) ** 3


def _curvature(form: _Form, eigenvalue: float, seed: int) -> float:
    """Second difference of 1/2 E |h(lambda) - h(true lambda)|^2, which is 0 where lambda is true."""
    (true, lower, upper), step = form.moved(eigenvalue)
    num_steps = math.ceil(_MEMORIES / (1 - eigenvalue))
    cell = _Units(torch.tensor([true, lower, upper], dtype=torch.float64), form.gain(eigenvalue))
    x = torch.randn(2 * num_steps, _SEQUENCES, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        h = Recurrent(cell, 1, 3)(x)[0][num_steps:]
        losses = (h[..., 1:] - h[..., :1]).square().mean((0, 1)) / 2
    return float(losses.sum()) / step**2
