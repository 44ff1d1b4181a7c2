"""One endless signal, read in chunks with the hidden state carried along: what stood some steps ago? nn.RNN.

The state is detached between chunks, so that a chunk is the window of backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "stateful"
ADAM = partial(torch.optim.Adam, lr=2e-3)
NUM_SYMBOLS, LAG, CHUNK, BATCH = 4, 12, 32, 32


class Echo(nn.Module):
    def __init__(self, hidden=64, recurrent=nn.init.orthogonal_, **options):
        super().__init__()
        self.rnn = nn.RNN(NUM_SYMBOLS, hidden, batch_first=True, **options)
        recurrent(self.rnn.weight_hh_l0)
        self.readout = nn.Linear(hidden, NUM_SYMBOLS)

    def forward(self, x, h=None):
        out, h = self.rnn(x, h)
        return self.readout(out), h


def cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def signal(generator: torch.Generator, batch: int, length: int) -> tuple[Tensor, Tensor]:
    symbols = torch.randint(NUM_SYMBOLS, (batch, length), generator=generator)
    targets = torch.full_like(symbols, -100)
    targets[:, LAG:] = symbols[:, :-LAG]
    return F.one_hot(symbols, NUM_SYMBOLS).float(), targets


def train(patient: Patient, num_steps: int, *, chunk: int, clip: float | None, zero_every: int | None) -> None:
    model, optimizer = patient.model, patient.optimizer
    hidden, x, y, position = patient.carried or (None, None, None, 0)
    for step in range(patient.num_steps_done, patient.num_steps_done + num_steps):
        if x is None or position >= x.shape[1]:
            (x, y), hidden, position = next(patient.stream), None, 0
        if hidden is not None:
            hidden = hidden.detach()
        piece, wanted = x[:, position : position + chunk], y[:, position : position + chunk]
        position += chunk
        if zero_every is not None and step % zero_every == 0:
            optimizer.zero_grad()
        outputs = model(piece, hidden)
        hidden = outputs[1]
        if (wanted != -100).any():
            loss = patient.loss(outputs, wanted)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    patient.carried = (hidden, x, y, position)


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Echo,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    chunk: int = CHUNK,
    length: int = 8 * CHUNK,
    clip: float | None = 1.0,
    zero_every: int | None = 1,
    steps: int = 400,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield signal(generator, BATCH, length)

    x_valid, y_valid = signal(torch.Generator().manual_seed(123), 64, 64)

    def accuracy(model: nn.Module) -> float:
        logits, _ = model(x_valid)
        asked = y_valid != -100
        return (logits.argmax(-1)[asked] == y_valid[asked]).float().mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=cross_entropy,
        loop=partial(train, chunk=chunk, clip=clip, zero_every=zero_every),
        evaluate=accuracy,
        target=0.9,
        steps_to_learn=steps,
        batch=signal(torch.Generator().manual_seed(seed), BATCH, min(length, 64)),
        validation=(x_valid, y_valid),
        window=chunk,
        time_dim=1,
    )


def gaussian(gain: float) -> Callable[[Tensor], Any]:
    return lambda weight: nn.init.normal_(weight, std=gain / weight.shape[1] ** 0.5)


def growing(gain: float) -> Callable[[], nn.Module]:
    return partial(Echo, recurrent=gaussian(gain), nonlinearity="relu")


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


SGD = partial(torch.optim.SGD, lr=0.2)

CASES = [
    healthy("plain"),
    healthy("long-window", chunk=128, length=512, steps=200),
    healthy("window-just-enough", chunk=16, steps=600),
    broken("truncated-window", 0, chunk=4, steps=400 * CHUNK // 4),  # as many sequences as a healthy one reads
    broken("truncated-window", 1, chunk=2, steps=400 * CHUNK // 2),
    broken("truncated-window", 2, chunk=1, steps=400 * CHUNK),
    broken("chaotic-dynamics", 0, model=partial(Echo, 128, recurrent=gaussian(2.0))),
    broken("chaotic-dynamics", 1, model=partial(Echo, 128, recurrent=gaussian(3.0))),
    broken(
        "exploding-gradient",
        0,
        model=partial(Echo, recurrent=gaussian(2.5), nonlinearity="relu"),
        optimizer=SGD,
        clip=None,
    ),
    broken(
        "exploding-gradient",
        1,
        model=partial(Echo, recurrent=gaussian(4.0), nonlinearity="relu"),
        optimizer=SGD,
        clip=None,
    ),
    broken("gradient-not-reset", 0, zero_every=16, optimizer=SGD, clip=None, needs_loop=True),
    broken("gradient-not-reset", 1, zero_every=None, optimizer=SGD, clip=None, needs_loop=True),
    broken("learning-rate-too-high", 0, optimizer=partial(torch.optim.Adam, lr=0.1)),
    broken("learning-rate-too-high", 1, optimizer=partial(torch.optim.Adam, lr=0.5)),
]
