"""Small patients: one that a learning rate cures, and variants of it that are wrong in some way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.remedy import TreatmentPlan


class Toy:
    """Which of two symbols stood in the first of six steps? An nn.RNN whose learning rate is far too low."""

    target: float | None = 0.9
    steps: int | None = 25
    time_dim = 0
    clip = 1.0

    def __init__(self, rate: float = 1e-5, length: int = 6) -> None:
        self.rate, self.length = rate, length

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Reader()
        return model, torch.optim.Adam(model.parameters(), lr=self.rate)

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield drawn(generator, 16, self.length)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, model: nn.Module) -> float:
        x, y = drawn(torch.Generator().manual_seed(99), 64, self.length)
        return float((model(x).argmax(-1) == y).float().mean())


class OwnLoop(Toy):
    """A loop that knows nothing of plans."""

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterator[Any],
        num_steps: int,
        plan: TreatmentPlan,
    ) -> None:
        for _ in range(num_steps):
            x, y = next(batches)
            optimizer.zero_grad()
            self.loss(model(self.seen(x)), y).backward()
            optimizer.step()

    def seen(self, x: Tensor) -> Tensor:
        """What the loop makes of a batch."""
        return x


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 8)
        nn.init.orthogonal_(self.rnn.weight_hh_l0)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def drawn(generator: torch.Generator, batch: int, length: int) -> tuple[Tensor, Tensor]:
    y = torch.randint(2, (batch,), generator=generator)
    x = 0.1 * torch.randn(length, batch, 2, generator=generator)
    x[0, torch.arange(batch), y] += 1.0
    return x, y


class Told:
    """Learns under a plan with the seeds that it is told, and trains nothing: for what a trial makes of outcomes."""

    target: float | None = 0.5
    steps: int | None = 2

    def __init__(self, learns: Callable[[TreatmentPlan, int], bool], plan: TreatmentPlan | None = None) -> None:
        self.learns, self.plan = learns, plan or TreatmentPlan()

    def treated(self, plan: TreatmentPlan) -> Told:
        treated = type(self)(self.learns, plan)
        treated.target = self.target
        return treated

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Linear(1, 1)
        nn.init.constant_(model.bias, 1.0 if self.learns(self.plan, seed) else 0.0)
        return model, torch.optim.SGD(model.parameters(), lr=RATE)

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        while True:
            yield torch.full((2, 1), float(seed)), torch.zeros(2, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0 * (outputs - targets).sum()

    def score(self, model: nn.Module) -> float:
        return float(model.bias)  # type: ignore[arg-type]


RATE = 0.01
"""Of `Told`."""
