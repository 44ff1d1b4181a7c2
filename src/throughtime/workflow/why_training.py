"""What training makes of it: longer sequences, starts that drift, and outcomes that differ from seed to seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.measurement import measure
from throughtime.tasks import DelayedRecall
from throughtime.trial.statistics import wilson
from throughtime.workflow.bench_attempt import attempt, fresh
from throughtime.workflow.bench_setting import Setting
from throughtime.workflow.why_record import Answer, Chart, Curve, Table

__all__ = ["Trained", "drift", "lengths", "outcomes", "trained"]

LENGTHS = (5, 10, 20, 40, 80)
STARTS: dict[str, Setting] = {
    "plain, torch's start": Setting(cell="elman", options={"init": "torch"}, hidden_size=48),
    "plain, critical": Setting(cell="elman", options={"init": "critical"}, hidden_size=48),
    "plain, orthogonal": Setting(cell="elman", options={"init": "orthogonal"}, hidden_size=48),
    "ReLU, identity": Setting(cell="elman-relu", options={"init": "identity"}, hidden_size=48),
    "LSTM, forget bias 1": Setting(cell="lstm", hidden_size=48),
    "LSTM, chrono": Setting(cell="lstm", options={"init": "chrono", "max_lag": 100}, hidden_size=48),
}
_LEARNING_RATE = 3e-3
_HOURS = 24.0
"""An attempt here ends with its updates, not with the clock: the numbers are to be the same on any machine."""


_MEASURED, _MEASURED_SEED = 4, 2_000_003


@dataclass(frozen=True)
class Trained:
    """One network, before and after.

    Attributes:
        start: one of `STARTS`.
        seed: of weights and data.
        before: reach at the start.
        after: reach when training ended.
        score: accuracy on sequences that were not trained on.
        solved: whether that was at least 0.99.
        steps: updates made.
    """

    start: str
    seed: int
    before: int
    after: int
    score: float
    solved: bool
    steps: int


def lengths(
    seed: int, of: tuple[int, ...] = LENGTHS, num_seeds: int = 5, num_updates: int = 200, hidden_size: int = 48
) -> Answer:
    """The class told at the first step, asked for at the last: the same plain net on longer and longer sequences."""
    setting = Setting(cell="elman", options={"init": "torch"}, hidden_size=hidden_size, learning_rate=_LEARNING_RATE)
    rows, shares, scores = [], [], []
    for length in of:
        task = DelayedRecall(length=length)
        found = [
            attempt(task, setting, minutes=60 * _HOURS, seed=seed + number, most_steps=num_updates)
            for number in range(num_seeds)
        ]
        score = sum(each.score for each in found) / num_seeds
        num_solved = sum(each.solved for each in found)
        needed = [each.steps for each in found if each.solved]
        rows.append((length, f"{num_solved} of {num_seeds}", score, median(needed) if needed else None))
        shares.append(num_solved / num_seeds)
        scores.append(score)
    solved = [length for length, share in zip(of, shares, strict=True) if share == 1]
    lost = [length for length, share in zip(of, shares, strict=True) if share == 0]
    numbers = {
        "num_updates": float(num_updates),
        "num_seeds": float(num_seeds),
        "longest_solved": float(max(solved, default=0)),
        "shortest_lost": float(min(lost, default=0)),
        "score_longest": scores[-1],
        "longest": float(of[-1]),
    }
    columns = ("length", "seeds that learn it", "mean accuracy", "updates needed (median)")
    chart = Chart("length of the sequence", "accuracy", (Curve("mean of the seeds", of, tuple(scores)),), log_x=True)
    return Answer("lengths", numbers, Table(columns, tuple(rows)), chart)


def trained(
    seed: int,
    starts: dict[str, Setting] | None = None,
    *,
    length: int = 100,
    num_seeds: int = 5,
    num_updates: int = 200,
) -> tuple[Trained, ...]:
    """Every start over several seeds, with its reach before and after training."""
    task = DelayedRecall(length=length)
    found = []
    for name, setting in (STARTS if starts is None else starts).items():
        for each in range(seed, seed + num_seeds):
            setting = _at_rate(setting)
            network = fresh(task, setting, each)
            before = _reach(network, task, each)
            outcome = attempt(task, setting, minutes=60 * _HOURS, seed=each, most_steps=num_updates, network=network)
            after = _reach(network, task, each)
            found.append(Trained(name, each, before, after, outcome.score, outcome.solved, outcome.steps))
    return tuple(found)


def drift(found: tuple[Trained, ...], length: int = 100) -> Answer:
    """How far the gradient reached before training, and how far after it."""
    rows, curves = [], []
    for name, own in _by_start(found).items():
        before, after = [each.before for each in own], [each.after for each in own]
        rows.append((name, median(before), median(after), min(after), max(after)))
        curves.append(_points(name, own, lambda each: each.after))
    moved = [each for each in found if abs(each.after - each.before) > 0.2 * max(1, each.before)]
    numbers = {
        "num_networks": float(len(found)),
        "num_moved": float(len(moved)),
        "num_longer": float(sum(each.after > each.before for each in moved)),
        "num_shorter": float(sum(each.after < each.before for each in moved)),
        "need": float(length - 1),
        "widest": float(max(row[4] - row[3] for row in rows)),
    }
    columns = ("start", "median reach before", "median reach after", "least after", "most after")
    chart = Chart("reach before training, steps", "reach after training, steps", tuple(curves), joined=False)
    return Answer("drift", numbers, Table(columns, tuple(rows)), chart)


def outcomes(found: tuple[Trained, ...], length: int = 100) -> Answer:
    """What became of each start over the seeds, and whether the reach at the start foretold it."""
    rows, curves = [], []
    for name, own in _by_start(found).items():
        num_solved = sum(each.solved for each in own)
        low, high = wilson(num_solved, len(own))
        scores = sorted(each.score for each in own)
        interval = f"{low:.0%} to {high:.0%}"
        rows.append((name, f"{num_solved} of {len(own)}", interval, scores[0], scores[-1]))
        curves.append(_points(name, own, lambda each: each.score))
    far = [each for each in found if each.before >= length - 1]
    short = [each for each in found if each.before < length - 1]
    numbers = {
        "num_seeds": len(found) / len(rows),
        "num_starts": float(len(rows)),
        "num_mixed": float(sum(0 < sum(e.solved for e in own) < len(own) for own in _by_start(found).values())),
        "far": float(len(far)),
        "far_solved": float(sum(each.solved for each in far)),
        "short": float(len(short)),
        "short_solved": float(sum(each.solved for each in short)),
        "need": float(length - 1),
    }
    columns = ("start", "seeds that learn it", "95 % interval", "worst accuracy", "best accuracy")
    chart = Chart("reach before training, steps", "accuracy after training", tuple(curves), joined=False)
    return Answer("outcomes", numbers, Table(columns, tuple(rows)), chart)


def _by_start(found: tuple[Trained, ...]) -> dict[str, list[Trained]]:
    names = dict.fromkeys(each.start for each in found)
    return {name: [each for each in found if each.start == name] for name in names}


def _points(name: str, own: list[Trained], value: Callable[[Trained], float]) -> Curve:
    """One for each network, by its reach before training."""
    ordered = sorted(own, key=lambda each: each.before)
    return Curve(name, tuple(each.before for each in ordered), tuple(value(each) for each in ordered))


def _at_rate(setting: Setting) -> Setting:
    return replace(setting, learning_rate=_LEARNING_RATE)


def _reach(network: nn.Module, task: DelayedRecall, seed: int) -> int:
    """In steps, from the last step of sequences that were not trained on."""
    batch = task.batch(_MEASURED, seed=_MEASURED_SEED + seed)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    record = measure(network, batch.inputs, batch.targets, loss, time_dim=0, batch_dim=1, seed=seed)
    return 0 if record.reach is None else record.reach
