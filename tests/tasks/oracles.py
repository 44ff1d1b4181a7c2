"""Solvers of the tasks, written from their definitions alone: what they say is compared with the targets."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from throughtime.tasks import (
    Adding,
    AssociativeRecall,
    Copying,
    CoupledSines,
    DelayedRecall,
    Dyck,
    MackeyGlass,
    NBack,
    NoisyMajority,
    Parity,
    Permutations,
    SelectiveCopying,
    Task,
)
from throughtime.tasks.forecasting import _moments


def solved(task: Task, inputs: Tensor, step: int) -> Tensor:
    """(B,) or (B, O): what is to be answered at a step, from the inputs up to there."""
    known = inputs[: step + 1]
    match task:
        case Adding():
            return (known[..., 0] * known[..., 1]).sum(0).unsqueeze(1)
        case Copying():
            return known[step - (task.length - task.num_copied)]
        case DelayedRecall():
            return known[0].argmax(1)
        case NBack():
            return known[step - task.lag]
        case Parity():
            return known.sum(0) % 2
        case NoisyMajority():
            return ((known == 1).sum(0) > (known == 0).sum(0)).long()
        case CoupledSines():
            return continued_sines(task, known)
        case MackeyGlass():
            return continued_mackey_glass(task, known)
    each = {
        SelectiveCopying: scattered,
        AssociativeRecall: looked_up,
        Permutations: multiplied,
        Dyck: closing,
    }[type(task)]
    return torch.tensor([each(task, row.tolist()) for row in known.t()])


def scattered(task: SelectiveCopying, row: list[int]) -> int:
    """Counted from the newest symbol, so that none older than the answer itself is needed."""
    symbols = [symbol for symbol in row[: task.length - task.num_copied] if symbol < task.num_symbols]
    behind = task.length - len(row)
    return symbols[-1 - behind] if behind < len(symbols) else 0


def looked_up(task: AssociativeRecall, row: list[int]) -> int:
    """The value of the newest pair with this key; if there is none, that of the oldest pair."""
    half = task.vocabulary_size // 2
    for pair in range(task.num_pairs - 1, 0, -1):
        if row[2 * pair] == row[-1]:
            return row[2 * pair + 1] - half
    return row[1] - half


def multiplied(task: Permutations, row: list[int]) -> int:
    permutations = list(itertools.permutations(range(task.num_items)))
    places = list(range(task.num_items))
    for now in row:
        places = [permutations[now][place] for place in places]
    return permutations.index(tuple(places))


def closing(task: Dyck, row: list[int]) -> int:
    """From the newest bracket back to the first that is still open."""
    closed = 0
    for symbol in reversed(row):
        if symbol < task.num_types:
            if closed == 0:
                return symbol
            closed -= 1
        else:
            closed += 1
    return symbol % task.num_types


def continued_sines(task: CoupledSines, known: Tensor) -> Tensor:
    """By the recurrence whose roots are exp(i w) and exp(-i w) for each frequency w."""
    polynomial = [1.0]
    for frequency in task.frequencies:
        factor = (1.0, -2 * math.cos(frequency), 1.0)
        longer = [0.0] * (len(polynomial) + 2)
        for (i, a), (j, b) in itertools.product(enumerate(polynomial), enumerate(factor)):
            longer[i + j] += a * b
        polynomial = longer
    values = list(known.double())
    for _ in range(task.horizon):
        values.append(sum((-c * values[-lag] for lag, c in enumerate(polynomial) if lag), torch.zeros(())))
    return values[-1].float()


def continued_mackey_glass(task: MackeyGlass, known: Tensor) -> Tensor:
    mean, deviation = _moments(task.delay)
    values = [value * deviation + mean for value in known.double()]
    for _ in range(task.horizon):
        late = values[-1 - task.delay]
        values.append(values[-1] + 0.2 * late / (1 + late**10) - 0.1 * values[-1])
    return ((values[-1] - mean) / deviation).float()
