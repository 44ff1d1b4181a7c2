"""What a net without a loop remembers, and what one with a loop does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.layer import Recurrent
from throughtime.measurement import measure
from throughtime.workflow.why_record import Answer, Chart, Curve, Table

__all__ = ["loop", "window"]

WINDOW = 5
"""Inputs that the net without a loop reads: the newest and four before it."""

_NUM_SYMBOLS, _LAGS, _STEPS, _BATCH, _HIDDEN = 4, 11, 64, 32, 96


@dataclass(frozen=True)
class _Recalled:
    """How often a net says rightly which symbol came so many steps ago, and how far its gradient goes."""

    accuracy: tuple[float, ...]
    gradient: tuple[float | None, ...]
    updates_until_good: int | None


class _Window(nn.Module):
    """Two layers over the last five inputs; signals move one way."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(WINDOW * _NUM_SYMBOLS, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, _LAGS * _NUM_SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 0, 0, WINDOW - 1, 0))
        recent = torch.cat([padded[WINDOW - 1 - lag : padded.size(0) - lag] for lag in range(WINDOW)], -1)
        return cast(Tensor, self.out(torch.relu(self.hidden(recent))))


class _Loop(nn.Module):
    """One input at a time, and the state of the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = Recurrent("elman", _NUM_SYMBOLS, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, _LAGS * _NUM_SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.out(self.recurrent(x)[0]))


def window(seed: int, num_updates: int = 120) -> Answer:
    """A net of five inputs: asked which symbol came 0 to 10 steps ago."""
    found = _recalled(_Window, seed, num_updates)
    inside, outside = found.accuracy[:WINDOW], found.accuracy[WINDOW:]
    numbers = {
        "inside": min(inside),
        "outside": max(outside),
        "chance": 1 / _NUM_SYMBOLS,
        "updates": float(num_updates if found.updates_until_good is None else found.updates_until_good),
        "trained": float(found.updates_until_good is not None),
        "gradient_steps": float(sum(value is not None for value in found.gradient) - 1),
    }
    return _answer("window", numbers, {"net of five inputs": found})


def loop(seed: int, num_updates: int = 120) -> Answer:
    """The same questions to a net that reads one input, and its own last state."""
    found, without = _recalled(_Loop, seed, num_updates), _recalled(_Window, seed, num_updates)
    numbers = {
        "outside": sum(found.accuracy[WINDOW:]) / (_LAGS - WINDOW),
        "chance": 1 / _NUM_SYMBOLS,
        "num_steps": float(_STEPS),
        "gradient_steps": float(sum(value is not None for value in found.gradient) - 1),
    }
    return _answer("loop", numbers, {"net of five inputs": without, "net with a loop": found})


def _recalled(kind: type[nn.Module], seed: int, num_updates: int) -> _Recalled:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = kind()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    good = None
    for update in range(1, num_updates + 1):
        logits, targets = _asked(net, generator)
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation for it
        optimizer.step()
        right = (logits.argmax(-1) == targets)[..., :WINDOW].double().mean().item()
        good = update if good is None and right > 0.99 else good
    with torch.no_grad():
        logits, targets = _asked(net, generator, batch=256)
    accuracy = (logits.argmax(-1) == targets).double().mean((0, 1))
    x = F.one_hot(torch.randint(_NUM_SYMBOLS, (_STEPS, 8), generator=generator), _NUM_SYMBOLS).float()
    record = measure(net, x, time_dim=0, batch_dim=1, max_lag=3 * _STEPS // 4 - 1, seed=seed)
    return _Recalled(tuple(accuracy.tolist()), record.log10_gradient, good)


def _asked(net: nn.Module, generator: torch.Generator, batch: int = _BATCH) -> tuple[Tensor, Tensor]:
    """Logits and targets (T - 10, B, 11, ...): of each step, which symbol came 0 to 10 steps before."""
    ids = torch.randint(_NUM_SYMBOLS, (_STEPS, batch), generator=generator)
    logits = net(F.one_hot(ids, _NUM_SYMBOLS).float()).unflatten(-1, (_LAGS, _NUM_SYMBOLS))
    targets = torch.stack([ids.roll(lag, 0) for lag in range(_LAGS)], -1)
    return logits[_LAGS - 1 :], targets[_LAGS - 1 :]


def _answer(key: str, numbers: dict[str, float], found: dict[str, _Recalled]) -> Answer:
    lags = tuple(range(_LAGS))
    columns = ("asked about so many steps ago", *(f"right: {name}" for name in found))
    rows = tuple((lag, *(recalled.accuracy[lag] for recalled in found.values())) for lag in lags)
    curves = tuple(Curve(name, lags, recalled.accuracy) for name, recalled in found.items())
    return Answer(key, numbers, Table(columns, rows), Chart("steps ago", "share of right answers", curves))
