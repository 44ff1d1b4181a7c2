"""A controller that acts on what it sees now: sequences of one step, or of a few, through an LSTM all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient


def situations(count: int, steps: int, generator: torch.Generator) -> Batch:
    """(count, steps, 6) and the right action at each step, which follows from the present situation."""
    x = torch.randn(count, steps, 6, generator=generator)
    push = torch.tanh(x[..., 0] + 0.5 * x[..., 1]) - 0.5 * x[..., 2] * x[..., 3]
    return x, push[..., None]


class Policy(nn.Module):
    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(6, 48), nn.ELU())
        self.lstm = nn.LSTM(48, hidden, batch_first=True)
        self.act = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.encode(x))
        return self.act(h)


def script(*, steps: int = 1, lr: float = 5e-3, target: float = -0.12) -> Callable[[int], Patient]:
    criterion = nn.MSELoss()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Policy()
        return model, torch.optim.Adam(model.parameters(), lr=lr)

    def batches(seed: int) -> Iterator[Batch]:
        g = torch.Generator().manual_seed(seed)
        while True:
            yield situations(64, steps, g)

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            criterion(patient.model(x), y).backward()
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        x, y = situations(512, steps, torch.Generator().manual_seed(90_009))
        return -float(criterion(model(x), y))

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=400,
            validation=situations(64, steps, torch.Generator().manual_seed(90_010)),
        )

    return make


CASES = [
    Case("w_one_step-one-step", "w_one_step", None, 0, script()),
    Case("w_one_step-five-steps-without-memory", "w_one_step", None, 0, script(steps=5)),
]
