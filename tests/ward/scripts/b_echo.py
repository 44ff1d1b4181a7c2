"""An IRNN (ReLU, identity start) that says again the three bits of some steps ago: RMSprop, BCE with logits.

Written blind, before its writer had read the diagnosis, as are all scripts whose names begin with b_.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

LAG, STEPS, BATCH = 3, 25, 32


def bits(seed: int, batch: int = BATCH) -> Iterator[Batch]:
    g = torch.Generator().manual_seed(seed)
    while True:
        x = (torch.rand(STEPS, batch, 3, generator=g) > 0.5).float()
        yield x, torch.cat([torch.zeros(LAG, batch, 3), x[:-LAG]], 0)


class IRNN(nn.Module):
    def __init__(self, bias: float = 0.0, size: int = 40) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, size, nonlinearity="relu")
        self.fc = nn.Linear(size, 3)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.constant_(self.rnn.bias_ih_l0, bias)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0])


def script(*, bias: float = 0.0, rate: float = 1e-3) -> Callable[[int], Patient]:
    criterion = nn.BCEWithLogitsLoss()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = IRNN(bias)
        return model, torch.optim.RMSprop(model.parameters(), lr=rate)

    def loop(patient: Patient, num_steps: int) -> None:
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = criterion(patient.model(x), y)
            loss.backward()
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        x, y = next(bits(90_009, 256))
        return -float(criterion(model(x), y))

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=bits,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=-0.6,
            steps_to_learn=400,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: float) -> Case:
    return Case(f"b_echo-{name}", "b_echo", code, strength, script(**options))


CASES = [
    case("irnn-rmsprop"),
    case("dead-units-0", "dead-units", 0, bias=-3.0),
    case("dead-units-1", "dead-units", 1, bias=-6.0),
    case("learning-rate-too-high-0", "learning-rate-too-high", 0, rate=0.3),
    case("learning-rate-too-high-1", "learning-rate-too-high", 1, rate=3.0),
]
"""The healthy one was called learning-rate-too-high in the first blind scoring."""
