"""The adding problem: the sum of two marked numbers, told after the last step. nn.LSTM, batch first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "adding_lstm"
ADAM = partial(torch.optim.Adam, lr=1e-2)
LENGTH, BATCH, HIDDEN = 30, 64, 32


class Adder(nn.Module):
    def __init__(self, hidden: int = HIDDEN, forget_bias: float = 1.0, layers: int = 1, dropout: float = 0.0):
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, num_layers=layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, 1)
        for layer in range(layers):
            bias = getattr(self.lstm, f"bias_ih_l{layer}")
            bias.data.zero_()
            getattr(self.lstm, f"bias_hh_l{layer}").data.zero_()
            bias.data[hidden : 2 * hidden] = forget_bias

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = self.lstm(x, state)
        return self.linear(self.dropout(output[:, -1])).squeeze(-1), state


class AdderWithShortcut(Adder):
    """The prediction is read from a summary of the inputs, and only a little of it from the LSTM."""

    def __init__(self, scale: float):
        super().__init__()
        self.summary = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.scale = scale

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = self.lstm(x, state)
        recurrent = self.linear(output[:, -1])
        return (self.summary(x[:, -1]) + self.scale * recurrent).squeeze(-1), state


def draw(generator: torch.Generator, batch: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    values = torch.rand(batch, length, generator=generator)
    markers = torch.zeros(batch, length)
    rows = torch.arange(batch)
    first = torch.randint(length // 2, (batch,), generator=generator)
    second = torch.randint(length // 2, length, (batch,), generator=generator)
    markers[rows, first] = 1.0
    markers[rows, second] = 1.0
    return torch.stack([values, markers], -1), values[rows, first] + values[rows, second]


def mse(outputs: tuple[Tensor, Any], targets: Tensor) -> Tensor:
    prediction, _ = outputs
    return ((prediction - targets) ** 2).mean()


def train(patient: Patient, num_steps: int, *, clip: float | None, accumulate: int) -> None:
    model, optimizer = patient.model, patient.optimizer
    model.train()
    for _ in range(num_steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            x, y = next(patient.stream)
            outputs = model(x)
            loss = patient.loss(outputs, y) / accumulate
            loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Adder,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    clip: float | None = 1.0,
    accumulate: int = 1,
    batch: int = BATCH,
    length: int = LENGTH,
    spoil: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None = None,
    steps: int = 500,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        number = 0
        while True:
            x, y = draw(generator, batch, length)
            number += 1
            yield spoil(x, y, number) if spoil is not None else (x, y)

    x_valid, y_valid = draw(torch.Generator().manual_seed(4321), 512, length)

    def minus_error(model: nn.Module) -> float:
        return -((model(x_valid)[0] - y_valid) ** 2).mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=mse,
        loop=partial(train, clip=clip, accumulate=accumulate),
        evaluate=minus_error,
        target=-0.05,  # guessing the mean leaves an error of 0.167
        steps_to_learn=steps,
        validation=(x_valid, y_valid),
        time_dim=1,
    )


def sensor_fault(every: int, size: float) -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]:
    """Now and then a batch arrives in which a sensor wrote nonsense."""

    def spoil(x: Tensor, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return (x, y * size) if number % every == 0 else (x, y)

    return spoil


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


SGD = partial(torch.optim.SGD, lr=0.05)

CASES = [
    healthy("plain"),
    healthy("accumulated", accumulate=4, batch=16),
    healthy("forget-bias-4", model=partial(Adder, forget_bias=4.0)),
    broken("closed-gates", 0, model=partial(Adder, forget_bias=-3.0)),
    broken("closed-gates", 1, model=partial(Adder, forget_bias=-5.0)),
    broken("closed-gates", 2, model=partial(Adder, forget_bias=-8.0)),
    broken("weak-recurrence", 0, model=partial(AdderWithShortcut, 1e-2)),
    broken("weak-recurrence", 1, model=partial(AdderWithShortcut, 1e-4)),
    broken("clipping-missing", 0, clip=None, spoil=sensor_fault(40, 1e3), optimizer=SGD, needs_loop=True),
    broken("clipping-missing", 1, clip=None, spoil=sensor_fault(25, 1e4), optimizer=SGD, needs_loop=True),
    broken("learning-rate-too-low", 0, optimizer=partial(torch.optim.Adam, lr=1e-5)),
    broken("learning-rate-too-low", 1, optimizer=partial(torch.optim.SGD, lr=1e-5)),
]
