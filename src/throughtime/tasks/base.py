"""What a task is: made sequences whose need is known by construction, and batches that nothing has to remember."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from throughtime.errors import InputError, RecipeError

__all__ = ["IGNORED", "Batch", "Chance", "Task", "whole_number"]

IGNORED = -100
"""The target of steps at which nothing is asked, as `torch.nn.functional.cross_entropy` has it."""


@dataclass(frozen=True)
class Batch:
    """Sequences and what is asked about them, time first.

    Attributes:
        inputs: (T, B, I) float32, or (T, B) int64 ids.
        targets: of whole sequences (B,) int64 classes or (B, O) float32 numbers; of each step (T, B) int64 classes,
            -100 where nothing is asked.
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Chance:
    """What the best constant output reaches, which is what a model reaches that has learned nothing.

    Attributes:
        loss: of `Task.loss`: nats, or mean squared error.
        score: of `Task.score`: accuracy, or share of variance explained (0).
    """

    loss: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task with known need. Its batches are a pure function of seed and step.

    Two seeds give independent data: train on one, test on another.

    Attributes:
        length: T, the steps of every sequence.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    per_step: ClassVar[bool] = False
    """Whether targets belong to steps; else to whole sequences, and the last step's output is to answer."""
    numbers: ClassVar[bool] = False
    """Whether targets are numbers; else classes."""

    length: int

    def __post_init__(self) -> None:
        whole_number("length", self.length, 1)
        self._validate()

    @property
    def input_size(self) -> int | None:
        """I, the features of a step; None where inputs are ids."""
        return None

    @property
    def num_ids(self) -> int | None:
        """How many ids there are; None where inputs are features."""
        return None

    @property
    @abstractmethod
    def output_size(self) -> int:
        """O: the classes, or the numbers to foretell."""

    @property
    @abstractmethod
    def need(self) -> int | None:
        """The largest lag that a target can hang on: inputs older than that say nothing that newer ones do not.

        None where that is not the question, because inputs one by one, or pooled, say nothing at all; or where the data
        is not made and so nothing is known by construction. Each task says why.
        """

    @property
    def chance(self) -> Chance:
        """What the best constant output reaches; the classes of every task are equally frequent unless it says so."""
        assert not self.numbers, "a task of numbers says how they vary"
        return Chance(math.log(self.output_size), 1 / self.output_size)

    def batch(self, batch: int, *, seed: int, step: int = 0) -> Batch:
        """The batch of a step, the same whenever it is asked for.

        Args:
            batch: B.
            seed: of the data, 0 or more.
            step: which batch of that seed, 0 or more.

        Returns:
            B sequences and their targets, on the CPU.

        Raises:
            RecipeError: if a number is out of range.
        """
        whole_number("batch", batch, 1)
        whole_number("seed", seed, 0)
        whole_number("step", step, 0)
        mixed = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
        # Torch takes 64 bits, but some releases refuse the highest.
        return self._draw(batch, torch.Generator().manual_seed(int(mixed[0]) >> 1))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy in nats, or mean squared error, over the targets that count.

        Args:
            outputs: (B, O), or (T, B, O) where targets belong to steps: logits, or numbers.
            targets: of a batch.

        Raises:
            InputError: if the shapes do not go together.
        """
        self._fitting(outputs, targets)
        if self.numbers:
            return F.mse_loss(outputs, targets)
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        """Accuracy of classes, or the share of the variance of numbers that is explained: 1 is perfect.

        Args:
            outputs: as `loss` takes them.
            targets: of a batch.

        Raises:
            InputError: if the shapes do not go together.
        """
        self._fitting(outputs, targets)
        if self.numbers:
            return 1 - float(F.mse_loss(outputs.detach(), targets)) / self.chance.loss
        counted = targets != IGNORED
        return float((outputs.argmax(-1) == targets)[counted].double().mean())

    @abstractmethod
    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        """B sequences from this generator and nothing else."""

    @abstractmethod
    def _validate(self) -> None:
        """Refuse choices that do not go together."""

    def _fitting(self, outputs: Tensor, targets: Tensor) -> None:
        batch = targets.shape[: 2 if self.per_step else 1]
        expected = (*batch, self.output_size)
        if tuple(outputs.shape) == expected:
            return
        what = "one for each step" if self.per_step else "one for each sequence: give those of the last step"
        raise InputError(
            f"{self.name} takes outputs of shape {expected} for these targets, {what}; not {tuple(outputs.shape)}"
        )


def whole_number(what: str, value: int, minimum: int) -> None:
    """Refuse what is no whole number or too small.

    Raises:
        RecipeError: if so.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise RecipeError(f"{what} must be a whole number, not {value!r}")
    if value < minimum:
        raise RecipeError(f"{what} must be at least {minimum}, not {value}")
