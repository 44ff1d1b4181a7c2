"""By how much do ones outnumber zeros? A hand-written GRU, one step at a time over short unrelated sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

T = 24


class GRUCell(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], dim=-1))).chunk(2, dim=-1)
        n = torch.tanh(self.candidate(torch.cat([x, r * h], dim=-1)))
        return (1 - z) * n + z * h


class Counter(nn.Module):
    def __init__(self, hidden: int = 32, *, normalise: str = "", keep: float = 0.0) -> None:
        super().__init__()
        self.hidden, self.normalise, self.keep = hidden, normalise, keep
        self.cell = GRUCell(3, hidden)
        self.head = nn.Linear(hidden, 1)
        self.h: Tensor | None = None

    def standardised(self, h: Tensor) -> Tensor:
        return (h - h.mean(dim=0)) / (h.std(dim=0) + 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.hidden)
        if self.keep and self.h is not None and len(self.h) == len(x):
            num_kept = round(self.keep * self.hidden)
            h[:, :num_kept] = self.h[:, :num_kept]
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            if self.normalise == "every step":
                h = self.standardised(h)
            elif self.normalise == "mean every step":
                h = h - h.mean(dim=0)
        if self.normalise == "last state":
            h = self.standardised(h)
        self.h = h.detach()
        return self.head(h).squeeze(-1)


def sequences(count: int, generator: torch.Generator, steps: int = T) -> Batch:
    """Zeros and ones as one-hot, with a column of noise; the target is the balance of ones, times a seventh."""
    share = torch.rand(count, 1, generator=generator)
    ones = (torch.rand(count, steps, generator=generator) < share).long()
    noise = torch.randn(count, steps, 1, generator=generator)
    balance = (2 * ones - 1).sum(dim=1) / 7.0
    return torch.cat([F.one_hot(ones, 2).float(), noise], dim=-1), balance


def script(
    *, steps: int = T, batch_size: int = 32, target: float = -0.06, **options: object
) -> Callable[[int], Patient]:
    criterion = nn.SmoothL1Loss()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Counter(**options)
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(seed: int) -> Iterator[Batch]:
        g = torch.Generator().manual_seed(seed)
        while True:
            yield sequences(batch_size, g, steps)

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = criterion(patient.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """New sequences in batches of the size used in training, and one at a time: minus the mean absolute error."""
        g = torch.Generator().manual_seed(90_009)
        errors = []
        for size in [batch_size] * 8 + [2] * 32:
            x, y = sequences(size, g, steps)
            errors.append((model(x) - y).abs().mean())
        return -float(torch.stack(errors).mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=300,
            validation=sequences(batch_size, torch.Generator().manual_seed(90_010), steps),
            time_dim=1,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_gru_steps-{name}", "w_gru_steps", code, strength, script(**options))


CASES = [
    case("own-loop"),
    case("hidden-size-2", hidden=2, target=-0.7),
    case("batch-of-four", batch_size=4, target=-0.35),
    case("state-carried-wrongly-0", "state-carried-wrongly", 0, keep=0.9),
    case("state-carried-wrongly-1", "state-carried-wrongly", 1, keep=1.0),
    case("batch-mixing-0", "batch-mixing", 0, normalise="last state"),
    case("batch-mixing-1", "batch-mixing", 1, normalise="mean every step"),
    case("batch-mixing-2", "batch-mixing", 2, normalise="every step"),
]
