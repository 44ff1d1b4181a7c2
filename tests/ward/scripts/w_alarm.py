"""Alarms that follow an event after a delay: a GRU over counters of a machine, a yes or no at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

DELAY = 12
RECORDED = 60


def records(count: int, seed: int, *, one_in: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """(T, B, 4) counters; an event is a jump of the first one, its alarm rings DELAY steps later. The load: a mean."""
    g = torch.Generator().manual_seed(seed)
    x = 0.2 * torch.randn(RECORDED, count, 4, generator=g)
    event = torch.rand(RECORDED, count, generator=g) < 1 / one_in
    x[:, :, 0] += 2.0 * event
    alarm = torch.zeros(RECORDED, count)
    alarm[DELAY:] = event[:-DELAY].float()
    load = 0.7 * x[:, :, 1] + 0.5 * x[:, :, 2]
    return x, alarm, load


class AlarmModel(nn.Module):
    def __init__(self, *, sigmoid: bool = False, two_tasks: bool = False, hidden: int = 48) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.rnn = nn.GRU(4, hidden)
        self.head = nn.Linear(hidden, 2 if two_tasks else 1)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        y = self.head(h)
        return torch.sigmoid(y) if self.sigmoid else y


def script(
    *,
    cut: int = RECORDED,
    one_in: int = 8,
    two_tasks: bool = False,
    positive_weight: float = 1.0,
    target: float = 0.7,
    **options: object,
) -> Callable[[int], Patient]:
    def alarm_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        weight = torch.tensor(positive_weight)
        loss = F.binary_cross_entropy_with_logits(outputs[..., 0], targets[..., 0], pos_weight=weight)
        if two_tasks:
            loss = loss + 0.1 * F.mse_loss(outputs[..., 1], targets[..., 1])
        return loss

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = AlarmModel(two_tasks=two_tasks, **options)
        return model, torch.optim.Adam(model.parameters(), lr=1e-2)

    def pieces(count: int, seed: int) -> Batch:
        """The recordings cut into pieces of equal length, one after the other along the batch."""
        x, alarm, load = records(count, seed, one_in=one_in)
        y = torch.stack([alarm, load] if two_tasks else [alarm], dim=-1)
        return torch.cat(x.split(cut)[: RECORDED // cut], dim=1), torch.cat(y.split(cut)[: RECORDED // cut], dim=1)

    def batches(seed: int) -> Iterator[Batch]:
        x, y = pieces(1600, seed)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            columns = torch.randint(x.shape[1], (32,), generator=shuffle)
            yield x[:, columns], y[:, columns]

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            x, y = next(patient.stream)
            loss = alarm_loss(patient.model(x), y)
            patient.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """How well the alarms are told on whole recordings: the best F1 over thresholds."""
        x, alarm, _ = records(200, 90_009, one_in=one_in)
        outputs, alarm = model(x)[DELAY:, :, 0].flatten(), alarm[DELAY:].flatten()
        best = 0.0
        for threshold in outputs.quantile(torch.linspace(0.5, 0.99, 30)):
            told = outputs > threshold
            hits = float((told * alarm).sum())
            best = max(best, 2 * hits / float(told.sum() + alarm.sum()))
        return best

    def make(seed: int) -> Patient:
        x, y = pieces(32, 90_010)
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=alarm_loss,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=500,
            validation=(x[:, :32], y[:, :32]),
            need=DELAY,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_alarm-{name}", "w_alarm", code, strength, script(**options))


CASES = [
    case("delayed"),
    case("sparse-targets", one_in=30, positive_weight=5.0),
    case("two-tasks", two_tasks=True),
    case("sequence-too-short-0", "sequence-too-short", 0, cut=11),
    case("sequence-too-short-1", "sequence-too-short", 1, cut=8),
    case("sequence-too-short-2", "sequence-too-short", 2, cut=4),
    case("probabilities-into-cross-entropy-0", "probabilities-into-cross-entropy", 0, sigmoid=True),
    case("probabilities-into-cross-entropy-1", "probabilities-into-cross-entropy", 1, sigmoid=True, one_in=30),
]
