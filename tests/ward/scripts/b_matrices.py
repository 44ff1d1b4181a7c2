"""A cell of one's own made of matrices, without any module: which symbol came some steps ago? SGD. Written blind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

LAG, STEPS, BATCH, SIZE = 8, 30, 32, 64


def symbols(seed: int, batch: int = BATCH) -> Iterator[Batch]:
    g = torch.Generator().manual_seed(seed)
    while True:
        s = torch.randint(2, (STEPS, batch), generator=g)
        y = s.roll(LAG, 0)
        y[:LAG] = -100
        yield nn.functional.one_hot(s, 2).float(), y


class Elman(nn.Module):
    def __init__(self, start: float | None, gain: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(2, SIZE) * 0.3)
        drawn = torch.linalg.qr(torch.randn(SIZE, SIZE))[0] * gain if start is None else torch.randn(SIZE, SIZE) * start
        self.U = nn.Parameter(drawn)
        self.b = nn.Parameter(torch.zeros(SIZE))
        self.V = nn.Parameter(torch.randn(SIZE, 2) / SIZE**0.5)

    def forward(self, xs: Tensor) -> Tensor:
        h = xs.new_zeros(xs.shape[1], SIZE)
        ys = []
        for x in xs:
            h = torch.tanh(x @ self.W + h @ self.U + self.b)
            ys.append(h @ self.V)
        return torch.stack(ys)


def script(*, start: float | None = None, gain: float = 1.0) -> Callable[[int], Patient]:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Elman(start, gain)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.reshape(-1, 2), targets.reshape(-1))

    def loop(patient: Patient, num_steps: int) -> None:
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            loss(patient.model(x), y).backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        x, y = next(symbols(90_009, 256))
        return float((model(x).argmax(-1) == y)[LAG:].float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=symbols,
            loss=loss,
            loop=loop,
            evaluate=evaluate,
            target=0.9,
            steps_to_learn=400,
        )

    return make


CASES = [
    Case("b_matrices-orthogonal", "b_matrices", None, 0, script()),
    Case("b_matrices-vanishing-gradient-0", "b_matrices", "vanishing-gradient", 0, script(start=0.02)),
    Case("b_matrices-vanishing-gradient-1", "b_matrices", "vanishing-gradient", 1, script(start=0.003)),
]
"""Of the first blind scoring: such a cell could not be measured at all."""
