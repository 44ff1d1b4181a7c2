"""A cell written by hand, stepped in a Python loop; the cue of the first step is asked for at the end. Batch first.

The cell is a gated one, h = (1 - z) h + z c, or a plain tanh one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "handmade"
ADAM = partial(torch.optim.Adam, lr=5e-3)
LENGTH, BATCH, CUES = 40, 32, 4


class GatedCell(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, gate_bias: float = -3.0):
        super().__init__()
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([x, h], dim=-1)
        z = torch.sigmoid(self.gate(both))
        return (1 - z) * h + z * torch.tanh(self.candidate(both))


class TanhCell(nn.Module):
    def __init__(
        self, input_size: int, hidden_size: int, gain: float = 1.0, bias: float = 0.0, orthogonal: bool = True
    ):
        super().__init__()
        self.wx = nn.Linear(input_size, hidden_size)
        self.wh = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.constant_(self.wx.bias, bias)
        if orthogonal:
            nn.init.orthogonal_(self.wh.weight, gain=gain)
        else:
            nn.init.normal_(self.wh.weight, std=gain / hidden_size**0.5)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.wx(x) + self.wh(h))


class ReLUCell(TanhCell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.wx(x) + self.wh(h))


class LinearCell(TanhCell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.wx(x) + self.wh(h)


class Reader(nn.Module):
    """A cell stepped along the sequence, and a readout of every step."""

    def __init__(self, cell=GatedCell, hidden=32, detach_every=None, skip=None, **options):
        super().__init__()
        self.hidden, self.detach_every, self.skip = hidden, detach_every, skip
        self.cell = cell(CUES + 2, hidden, **options)
        self.out = nn.Linear(hidden, CUES)
        self.direct = nn.Linear(CUES + 2, CUES) if skip is not None else None

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.hidden)
        outputs = []
        for t in range(x.shape[1]):
            if self.detach_every and t % self.detach_every == 0:
                h = h.detach()
            h = self.cell(x[:, t], h)
            y = self.out(h)
            if self.direct is not None:
                y = self.skip * y + self.direct(x[:, t])
            outputs.append(y)
        return torch.stack(outputs, dim=1)


def draw(
    generator: torch.Generator, batch: int, length: int, scale: float = 1.0, cue_stays: bool = False
) -> tuple[Tensor, Tensor]:
    """A cue in the first step, beside two noisy channels; the cue is asked for in the last ten steps."""
    cue = torch.randint(CUES, (batch,), generator=generator)
    x = torch.zeros(batch, length, CUES + 2)
    x[torch.arange(batch), :, cue] = 1.0
    if not cue_stays:
        x[:, 1:] = 0.0
    x[:, :, CUES:] = torch.randn(batch, length, 2, generator=generator) * 0.3
    y = torch.full((batch, length), -100)
    y[:, -10:] = cue[:, None]
    return x * scale, y


def per_position(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.transpose(1, 2), targets, ignore_index=-100, reduction="none")


def fit(patient: Patient, num_steps: int, clip: float | None) -> None:
    model, optimizer = patient.model, patient.optimizer
    for _ in range(num_steps):
        x, y = next(patient.stream)
        losses = patient.loss(model(x), y)
        loss = losses.sum() / (y != -100).sum()
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Reader,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    clip: float | None = 1.0,
    scale: float = 1.0,
    cue_stays: bool = False,
    length: int = LENGTH,
    steps: int = 250,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield draw(generator, BATCH, length, scale, cue_stays)

    held_out = draw(torch.Generator().manual_seed(31337), 200, length, scale, cue_stays)

    def accuracy(model: nn.Module) -> float:
        x, y = held_out
        asked = y != -100
        return (model(x).argmax(-1)[asked] == y[asked]).float().mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=per_position,
        loop=partial(fit, clip=clip),
        evaluate=accuracy,
        target=0.9,
        steps_to_learn=steps,
        validation=held_out,
        time_dim=1,
    )


def tanh(**options: Any) -> Callable[[], nn.Module]:
    return partial(Reader, TanhCell, **options)


def rectified(bias: float) -> Callable[[], nn.Module]:
    """ReLU from the identity, which hands a state on as it is."""

    def make() -> nn.Module:
        reader = Reader(ReLUCell, bias=bias)
        nn.init.eye_(reader.cell.wh.weight)
        return reader

    return make


def broken(code: str, strength: int, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes))


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


SGD = partial(torch.optim.SGD, lr=0.05)
SLOWLY: dict[str, Any] = {"optimizer": partial(torch.optim.Adam, lr=1e-3), "steps": 600}

CASES = [
    healthy("gated"),
    healthy("tanh", model=tanh(), **SLOWLY),
    healthy("relu-from-identity", model=rectified(0.0), **SLOWLY),
    healthy("long", length=100, model=partial(Reader, gate_bias=-4.0)),
    healthy("no-memory-needed", cue_stays=True),
    broken("vanishing-gradient", 0, model=tanh(gain=0.75), **SLOWLY),
    broken("vanishing-gradient", 1, model=tanh(gain=0.5), **SLOWLY),
    broken("saturated-units", 0, model=tanh(), scale=50.0, **SLOWLY),
    broken("saturated-units", 1, model=tanh(), scale=255.0, **SLOWLY),
    broken("closed-gates", 0, model=partial(Reader, gate_bias=2.0)),
    broken("closed-gates", 1, model=partial(Reader, gate_bias=4.0)),
    broken("truncated-window", 0, model=partial(Reader, detach_every=10), length=60),
    broken("truncated-window", 1, model=partial(Reader, detach_every=1), length=60),
    broken("weak-recurrence", 0, model=partial(Reader, skip=1e-4)),
    broken("weak-recurrence", 1, model=partial(Reader, skip=1e-6)),
    broken("exploding-gradient", 0, model=partial(Reader, LinearCell, gain=1.3), clip=None, optimizer=SGD),
    broken("exploding-gradient", 1, model=partial(Reader, LinearCell, gain=2.0), clip=None, optimizer=SGD),
    broken("dead-units", 0, model=rectified(-3.0), **SLOWLY),
    broken("dead-units", 1, model=rectified(-10.0), **SLOWLY),
]
