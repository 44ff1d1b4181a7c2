"""Which of four symbols stood in the first step? Told after the last one. nn.RNN, time first, a scalar loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "first_symbol"
ADAM = partial(torch.optim.Adam, lr=2e-3)
NUM_LABELS, NUM_SYMBOLS, LENGTH, BATCH = 4, 8, 50, 32
Initialise = Callable[[Tensor], Any]


class Recall(nn.Module):
    def __init__(self, hidden: int = 32, recurrent: Initialise = nn.init.orthogonal_, inputs: Initialise | None = None):
        super().__init__()
        self.rnn = nn.RNN(NUM_SYMBOLS, hidden)
        self.head = nn.Linear(hidden, NUM_LABELS)
        recurrent(self.rnn.weight_hh_l0)
        if inputs is not None:
            inputs(self.rnn.weight_ih_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x)
        return self.head(output[-1])


def draw(generator: torch.Generator, batch: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    labels = torch.randint(NUM_LABELS, (batch,), generator=generator)
    symbols = torch.randint(NUM_LABELS, NUM_SYMBOLS, (length, batch), generator=generator)
    symbols[0] = labels
    return F.one_hot(symbols, NUM_SYMBOLS).float(), labels


def random_labels(generator: torch.Generator, batch: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    x, _ = draw(generator, batch, length)
    return x, torch.randint(NUM_LABELS, (batch,), generator=generator)


def misaligned(generator: torch.Generator, batch: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """Inputs were sorted after the labels had been read."""
    x, labels = draw(generator, batch, length)
    return x[:, torch.randperm(batch, generator=generator)], labels


def loop(patient: Patient, num_steps: int, clip: float | None) -> None:
    model, optimizer = patient.model, patient.optimizer
    model.train()
    for _ in range(num_steps):
        x, y = next(patient.stream)
        optimizer.zero_grad()
        loss = patient.loss(model(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Recall,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    clip: float | None = 1.0,
    data: Callable[..., tuple[Tensor, Tensor]] = draw,
    batch: int = BATCH,
    length: int = LENGTH,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    steps: int = 400,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield data(generator, batch, length)

    x_valid, y_valid = data(torch.Generator().manual_seed(10_000), 256, length)

    def accuracy(model: nn.Module) -> float:
        return (model(x_valid).argmax(-1) == y_valid).float().mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss,
        loop=partial(loop, clip=clip),
        evaluate=accuracy,
        target=0.9,
        steps_to_learn=steps,
        validation=(x_valid, y_valid),
    )


def small(spread: float) -> Initialise:
    return partial(nn.init.uniform_, a=-spread, b=spread)


def gaussian(gain: float) -> Initialise:
    return lambda weight: nn.init.normal_(weight, std=gain / weight.shape[1] ** 0.5)


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


class AllEqual(Recall):
    """Every weight starts at the same number, so that all units stay copies of one."""

    def __init__(self, value: float):
        super().__init__()
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


SGD = partial(torch.optim.SGD, lr=0.1)
UNCLIPPED: dict[str, Any] = {"optimizer": SGD, "clip": None}

CASES = [
    healthy("plain"),
    healthy("tiny", model=partial(Recall, 12), optimizer=partial(torch.optim.Adam, lr=5e-3), length=25),
    healthy("label-smoothing", loss=partial(F.cross_entropy, label_smoothing=0.1)),
    healthy("sgd-large-rate", optimizer=SGD, clip=1.0, steps=600),
    healthy("big-clip", clip=1000.0),
    healthy("wide", model=partial(Recall, 128), optimizer=partial(torch.optim.Adam, lr=5e-4)),
    broken("vanishing-gradient", 0, model=partial(Recall, recurrent=partial(nn.init.orthogonal_, gain=0.8))),
    broken("vanishing-gradient", 1, model=partial(Recall, recurrent=partial(nn.init.orthogonal_, gain=0.6))),
    broken("vanishing-gradient", 2, model=partial(Recall, recurrent=small(0.05))),
    broken("saturated-units", 0, model=partial(Recall, inputs=gaussian(20.0))),
    broken("saturated-units", 1, model=partial(Recall, inputs=gaussian(60.0))),
    broken("chaotic-dynamics", 0, model=partial(Recall, 64, recurrent=gaussian(2.5)), length=100),
    broken("chaotic-dynamics", 1, model=partial(Recall, 64, recurrent=gaussian(3.0)), length=100),
    broken("exploding-gradient", 0, model=partial(Recall, 64, recurrent=gaussian(2.5)), needs_loop=True, **UNCLIPPED),
    broken("exploding-gradient", 1, model=partial(Recall, 64, recurrent=gaussian(4.0)), needs_loop=True, **UNCLIPPED),
    broken("no-signal", 0, data=random_labels),
    broken("no-signal", 1, data=misaligned),
    broken("learning-rate-too-high", 0, optimizer=partial(torch.optim.Adam, lr=0.1)),
    broken("learning-rate-too-high", 1, optimizer=partial(torch.optim.Adam, lr=0.5)),
    broken("learning-rate-too-low", 0, optimizer=partial(torch.optim.Adam, lr=1e-5)),
    broken("learning-rate-too-low", 1, optimizer=partial(torch.optim.SGD, lr=1e-6, momentum=0.9)),
    broken("plateau", 0, model=partial(AllEqual, 0.01)),
    broken("plateau", 1, model=partial(AllEqual, 0.0)),
]
