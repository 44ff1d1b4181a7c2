"""Forecasts of a daily curve with two periods and noise, of the steps after a window. nn.LSTM, batch first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "forecast"
ADAM = partial(torch.optim.Adam, lr=5e-3)
WINDOW, BATCH, AHEAD = 48, 32, 6


class Forecaster(nn.Module):
    def __init__(self, hidden_size=32, num_layers=1, dropout=0.0, normalise=False):
        super().__init__()
        self.normalise = normalise
        self.lstm = nn.LSTM(1, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden_size, AHEAD)

    def forward(self, series):
        mean, scale = 0.0, 1.0
        if self.normalise:
            mean, scale = series.mean(1), series.std(1) + 1e-6
            series = (series - mean[:, None]) / scale[:, None]
        hidden, _ = self.lstm(series)
        return self.head(hidden[:, -1]) * scale + mean


def curve(generator: torch.Generator, num_points: int, noise: float) -> Tensor:
    t = torch.arange(num_points) + 1000 * torch.rand(1, generator=generator)
    series = torch.sin(2 * math.pi * t / 24) + 0.5 * torch.sin(2 * math.pi * t / 7.3)
    return series + noise * torch.randn(num_points, generator=generator)


def windows(series: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    rows = series[starts[:, None] + torch.arange(WINDOW + AHEAD)]
    return rows[:, :WINDOW, None], rows[:, WINDOW:]


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(prediction, target)


def percentage_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Divides by the truth, which is zero where it is missing."""
    return ((prediction - target) / target).abs().mean()


def masked_root_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Missing points are masked, and leave the root of zero, whose slope is infinite."""
    error = (prediction - target) * (target != 0.0)
    return torch.sqrt((error**2).mean(-1)).mean()


def fit(patient: Patient, num_steps: int, *, clip: float | None, zero: bool) -> None:
    model, optimizer = patient.model, patient.optimizer
    model.train()
    for _ in range(num_steps):
        x, y = next(patient.stream)
        loss = patient.loss(model(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if zero:
            optimizer.zero_grad()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Forecaster,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    loss: Callable[[Tensor, Tensor], Tensor] = mse,
    clip: float | None = 1.0,
    zero: bool = True,
    noise: float = 0.1,
    num_points: int = 4000,
    change: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None = None,
    rescale: Callable[[Tensor], Tensor] | None = None,
    target: float = -0.06,
    steps: int = 300,
) -> Patient:
    series = curve(torch.Generator().manual_seed(seed), num_points, noise)
    later = curve(torch.Generator().manual_seed(2024), 800, noise)
    if rescale is not None:
        series, later = rescale(series), rescale(later)

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        number = 0
        while True:
            number += 1
            batch = windows(series, torch.randint(num_points - WINDOW - AHEAD, (BATCH,), generator=generator))
            yield change(*batch, number) if change is not None else batch

    held_out = windows(later, torch.arange(0, 740, 3))

    def minus_error(model: nn.Module) -> float:
        error = mse(model(held_out[0]), held_out[1]).item()
        return -error if math.isfinite(error) else -math.inf

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss,
        loop=partial(fit, clip=clip, zero=zero),
        evaluate=minus_error,
        target=target,
        steps_to_learn=steps,
        validation=held_out,
        time_dim=1,
    )


def outage(every: int, size: float) -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]:
    """A meter that failed writes a huge number."""

    def change(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
        if number % every == 0:
            y = y.clone()
            y[0, 0] = size
        return x, y

    return change


def missing_as_zero(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Missing values were filled with zeros."""
    if number % 8 == 0:
        y = y.clone()
        y[0] = 0.0
    return x, y


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
DEEP = partial(Forecaster, 64, 2)
PERCENT: dict[str, Any] = {  # a percentage of what is never zero
    "model": partial(Forecaster, normalise=True),
    "loss": percentage_error,
    "rescale": lambda series: series + 3,
}
NOISY: dict[str, Any] = {"noise": 0.4, "target": -0.25, "steps": 500}  # the noise alone makes an error of 0.16

CASES = [
    healthy("plain"),
    healthy("sgd", optimizer=SGD),
    healthy(
        "watts-normalised-inside",
        model=partial(Forecaster, normalise=True),
        loss=lambda prediction, target: mse(prediction / 1e4, target / 1e4),
        rescale=lambda series: 1e4 * (series + 3),
        target=-0.06e8,
    ),
    healthy("absolute-error", loss=nn.functional.l1_loss),
    healthy("noisy", **NOISY),
    healthy("percentage-error", **PERCENT),
    broken("learning-rate-too-low", 0, optimizer=partial(torch.optim.Adam, lr=1e-5)),
    broken("learning-rate-too-low", 1, optimizer=partial(torch.optim.SGD, lr=1e-5, momentum=0.9)),
    broken("learning-rate-too-high", 0, optimizer=partial(torch.optim.Adam, lr=0.3)),
    broken("learning-rate-too-high", 1, optimizer=partial(torch.optim.SGD, lr=3.0, momentum=0.9)),
    broken("over-clipping", 0, optimizer=SGD, clip=1e-3, needs_loop=True),
    broken("over-clipping", 1, optimizer=SGD, clip=1e-4, needs_loop=True),
    broken("clipping-missing", 0, optimizer=SGD, clip=None, change=outage(30, 1e3), needs_loop=True),
    broken("clipping-missing", 1, optimizer=SGD, clip=None, change=outage(20, 1e4), needs_loop=True),
    broken("non-finite", 0, **PERCENT, change=missing_as_zero, needs_loop=True),
    broken("non-finite", 1, loss=masked_root_error, change=missing_as_zero, needs_loop=True),
    broken("non-finite", 2, optimizer=partial(torch.optim.SGD, lr=50.0), clip=None),
    broken("overfitting", 0, model=DEEP, num_points=WINDOW + AHEAD + 24, needs_loop=True, **NOISY),
    broken("overfitting", 1, model=DEEP, num_points=WINDOW + AHEAD + 8, needs_loop=True, **NOISY),
    broken("gradient-not-reset", 0, optimizer=SGD, clip=None, zero=False, needs_loop=True),
    broken("gradient-not-reset", 1, zero=False, clip=None, needs_loop=True),
]
