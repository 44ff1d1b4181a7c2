"""A GRU beside a skip from its input, mixed by a gate that is learned: which symbol came six steps ago? Blind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

LAG, STEPS, BATCH, KINDS = 6, 30, 32, 4


def symbols(seed: int, batch: int = BATCH, *, same: bool = False) -> Iterator[Batch]:
    """`same`: somebody forgot to delay the targets."""
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randint(KINDS, (STEPS, batch), generator=g)
        y = x.roll(0 if same else LAG, 0)
        y[:LAG] = -100
        yield x, y


class Mixed(nn.Module):
    def __init__(self, mix: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(KINDS, 32)
        self.gru = nn.GRU(32, 32)
        self.mix = nn.Parameter(torch.tensor(mix))
        self.out = nn.Linear(32, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        e = self.embedding(x)
        h, _ = self.gru(e)
        gate = torch.sigmoid(self.mix)
        return self.out((1 - gate) * e + gate * h)


def script(
    *, mix: float = 2.0, sgd: float | None = None, same: bool = False, trained: str = "all"
) -> Callable[[int], Patient]:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Mixed(mix)
        if sgd is not None:
            return model, torch.optim.SGD(model.parameters(), lr=sgd)
        held = {
            "all": list(model.parameters()),
            "all but the gru": [p for name, p in model.named_parameters() if not name.startswith("gru")],
            "out": list(model.out.parameters()),
        }
        return model, torch.optim.Adam(held[trained], lr=1e-2)

    def batches(seed: int) -> Iterator[Batch]:
        return symbols(seed, same=same)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.reshape(-1, KINDS), targets.reshape(-1))

    def loop(patient: Patient, num_steps: int) -> None:
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            loss(patient.model(x), y).backward()
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        x, y = next(symbols(90_009, 256))
        return float((model(x).argmax(-1) == y)[LAG:].float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=loss,
            loop=loop,
            evaluate=evaluate,
            target=0.9,
            steps_to_learn=300,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"b_mixed-{name}", "b_mixed", code, strength, script(**options))  # type: ignore[arg-type]


CASES = [
    case("open"),
    case("weak-recurrence-0", "weak-recurrence", 0, mix=-7.0, sgd=0.05),
    case("weak-recurrence-1", "weak-recurrence", 1, mix=-9.0, sgd=0.05),
    case("optimizer-misses-parameters-0", "optimizer-misses-parameters", 0, trained="all but the gru"),
    case("optimizer-misses-parameters-1", "optimizer-misses-parameters", 1, trained="out"),
    case("targets-shifted-0", "targets-shifted", 0, same=True),
    case("targets-shifted-1", "targets-shifted", 1, same=True, mix=0.0),
]
