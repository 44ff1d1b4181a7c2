"""Three symbols are shown, and must be repeated after a delay. nn.RNN with ReLU, batch first, targets of -100."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ward.case import Case, Patient

BASE = "delayed_copy"
ADAM = partial(torch.optim.Adam, lr=1e-3)
NUM_SYMBOLS, NUM_SHOWN, DELAY, BATCH = 4, 3, 20, 32
RELU_GAIN = 1.35  # a ReLU passes about half of what comes back
BLANK, GO = NUM_SYMBOLS, NUM_SYMBOLS + 1


class CopyRNN(nn.Module):
    def __init__(self, hidden_size=48, nonlinearity="relu", recurrent=None, bias=0.0, inputs=1.0):
        super().__init__()
        self.embed = nn.Embedding(NUM_SYMBOLS + 2, 16)
        self.rnn = nn.RNN(16, hidden_size, nonlinearity=nonlinearity, batch_first=True)
        self.fc = nn.Linear(hidden_size, NUM_SYMBOLS)
        (recurrent or partial(nn.init.orthogonal_, gain=RELU_GAIN))(self.rnn.weight_hh_l0.data)
        nn.init.constant_(self.rnn.bias_ih_l0, bias)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        self.rnn.weight_ih_l0.data.mul_(inputs)

    def forward(self, tokens):
        out, hidden = self.rnn(self.embed(tokens))
        return self.fc(out), hidden


def make_batch(generator: torch.Generator, size: int, delay: int) -> tuple[Tensor, Tensor]:
    shown = torch.randint(NUM_SYMBOLS, (size, NUM_SHOWN), generator=generator)
    tokens = torch.full((size, NUM_SHOWN + delay + NUM_SHOWN), BLANK)
    tokens[:, :NUM_SHOWN] = shown
    tokens[:, NUM_SHOWN + delay] = GO
    targets = torch.full_like(tokens, -100)
    targets[:, -NUM_SHOWN:] = shown
    return tokens, targets


def criterion(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    logits, _ = outputs
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100)


def train(patient: Patient, num_steps: int, max_norm: float | None) -> None:
    for _ in range(num_steps):
        tokens, targets = next(patient.stream)
        patient.optimizer.zero_grad()
        loss = patient.loss(patient.model(tokens), targets)
        loss.backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(patient.model.parameters(), max_norm)
        patient.optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[..., nn.Module] = CopyRNN,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    max_norm: float | None = 1.0,
    delay: int = DELAY,
    steps: int = 400,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield make_batch(generator, BATCH, delay)

    held_out = make_batch(torch.Generator().manual_seed(777), 200, delay)

    def accuracy(model: nn.Module) -> float:
        tokens, targets = held_out
        logits, _ = model(tokens)
        asked = targets != -100
        return (logits.argmax(-1)[asked] == targets[asked]).float().mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=criterion,
        loop=partial(train, max_norm=max_norm),
        evaluate=accuracy,
        target=0.85,
        steps_to_learn=steps,
        validation=held_out,
        time_dim=1,
    )


def gaussian(gain: float) -> Callable[[Tensor], Any]:
    return lambda weight: weight.normal_(0, gain / weight.shape[1] ** 0.5)


def scaled_identity(scale: float) -> Callable[[Tensor], Any]:
    return lambda weight: weight.copy_(torch.eye(len(weight)) * scale)


def broken(code: str, strength: int, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes))


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


CASES = [
    healthy("relu-no-clip", max_norm=None),
    healthy("plain"),
    healthy(
        "tanh",
        model=partial(CopyRNN, nonlinearity="tanh", recurrent=nn.init.orthogonal_),
        optimizer=partial(torch.optim.Adam, lr=2e-3),
        delay=15,
        steps=500,
    ),
    broken("vanishing-gradient", 0, model=partial(CopyRNN, recurrent=partial(nn.init.orthogonal_, gain=0.7))),
    broken("vanishing-gradient", 1, model=partial(CopyRNN, recurrent=partial(nn.init.normal_, std=0.02))),
    broken("vanishing-gradient", 2, model=partial(CopyRNN, recurrent=scaled_identity(0.3))),
    broken("exploding-gradient", 0, model=partial(CopyRNN, recurrent=gaussian(2.5)), max_norm=None),
    broken("exploding-gradient", 1, model=partial(CopyRNN, recurrent=gaussian(3.0)), max_norm=None),
    broken("exploding-gradient", 2, model=partial(CopyRNN, recurrent=gaussian(4.0)), max_norm=None),
    broken("dead-units", 0, model=partial(CopyRNN, bias=-3.0)),
    broken("dead-units", 1, model=partial(CopyRNN, bias=-8.0)),
    broken("learning-rate-too-high", 0, optimizer=partial(torch.optim.Adam, lr=0.1)),
    broken("learning-rate-too-high", 1, optimizer=partial(torch.optim.SGD, lr=3.0, momentum=0.9)),
]
