"""A ledger is that of one patient: what changes a patient changes what it is known by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.trial.fingerprint import fingerprint
from throughtime.trial.patient import Patient


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


class Sound:
    target: float | None = 0.5
    steps = 10
    clip: float | None = None

    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(seed)
        model = self.net()
        return model, torch.optim.Adam(model.parameters(), lr=1e-3)

    def net(self) -> nn.Module:
        return Net()

    def batches(self, seed: int) -> Any:
        draw = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(7, 5, 3, generator=draw)
            yield x, x[..., :2]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()

    def score(self, model: nn.Module) -> float:
        return -float(self.loss(model(torch.ones(7, 5, 3)), torch.zeros(7, 5, 2)))


class OtherRate(Sound):
    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        model, _ = super().build(seed)
        return model, torch.optim.Adam(model.parameters(), lr=3e-3)


class OtherOptimizer(Sound):
    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        model, _ = super().build(seed)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)


class OtherLoss(Sound):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()


class OtherScore(Sound):
    def score(self, model: nn.Module) -> float:
        return super().score(model) * 2


class OtherForward(Sound):
    def net(self) -> nn.Module:
        class Doubled(Net):
            def forward(self, x: Tensor) -> Tensor:
                return 2 * super().forward(x)

        return Doubled()


class FailingForward(Sound):
    def net(self) -> nn.Module:
        class Failing(Net):
            def forward(self, x: Tensor, more: Tensor) -> Tensor:  # type: ignore[override]
                return super().forward(x + more)

        return Failing()


class Clipped(Sound):
    clip = 1.0


class OtherTarget(Sound):
    target = 0.6


class OtherLength(Sound):
    steps = 11


class WithWindow(Sound):
    window = 3


class WithLoop(Sound):
    def train(self, model: nn.Module, optimizer: Optimizer, batches: Any, num_steps: int, plan: Any) -> None:
        for _ in range(num_steps):
            self.loss(model(next(batches)[0]), next(batches)[1]).backward()
            optimizer.step()


class WithAnotherLoop(WithLoop):
    def train(self, model: nn.Module, optimizer: Optimizer, batches: Any, num_steps: int, plan: Any) -> None:
        for _ in range(num_steps):
            optimizer.zero_grad()
            self.loss(model(next(batches)[0]), next(batches)[1]).backward()
            optimizer.step()


PATIENTS = [
    Sound, OtherRate, OtherOptimizer, OtherLoss, OtherScore, OtherForward, FailingForward, Clipped, OtherTarget,
    OtherLength, WithWindow, WithLoop, WithAnotherLoop,
]  # fmt: skip


def test_whatever_makes_trainings_others_shows() -> None:
    found = {kind.__name__: fingerprint(kind(), 0) for kind in PATIENTS}
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("kind", PATIENTS, ids=lambda kind: kind.__name__)
def test_the_same_patient_is_known_again(kind: Callable[[], Patient]) -> None:
    before = torch.get_rng_state()
    assert fingerprint(kind(), 0) == fingerprint(kind(), 0)
    assert fingerprint(kind(), 0) != fingerprint(kind(), 1)
    assert torch.equal(torch.get_rng_state(), before)
