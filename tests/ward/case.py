"""A patient of the ward: what an ordinary training script holds in its local variables, and the name of what is wrong.

A script in `scripts/` is written as users write theirs: a model, data, a loss, a loop. It hands these to `Patient`,
which adds nothing to them, and lists its `CASES`: the same script, broken in one named way at two or three strengths,
or healthy although it looks odd.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Batch = tuple[Any, Any]
Optimizers = torch.optim.Optimizer | list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Case:
    """One script in one state.

    Args:
        name: "<base>-<code>-<strength>", or "<base>-<what is odd>" for a healthy one.
        base: the script; thresholds are set on half of the scripts and never split by strength.
        code: the finding that must come first; None where the patient is healthy.
        strength: 0, 1 or 2; 0 for a healthy one.
        make: a freshly built patient for a seed.
        needs_loop: the fault stands in the training loop, so only watching the loop can tell.
    """

    name: str
    base: str
    code: str | None
    strength: int
    make: Callable[[int], Patient]
    needs_loop: bool = False


class Patient:
    """A model in training, by the functions of a user's script.

    Args:
        seed: of the start, the batches and the training.
        build: seed -> (model, optimizer), freshly made.
        batches: seed -> an endless iterator of (inputs, targets).
        loss: (outputs, targets) -> losses of the positions, or a scalar.
        loop: the user's loop, (patient, number of steps); it reads its batches from `patient.stream`. What it takes
            besides (a clip, a chunk) is what its writer would change in it.
        evaluate: model -> score on held-out data, the higher the better.
        target: the score that a healthy patient reaches after `steps_to_learn` steps.
        steps_to_learn: see `target`.
        batch: the batch at hand; without it the first one of the stream.
        validation: (inputs, targets) held out.
        lengths: of the sequences of the batch at hand.
        window: the length of the truncated backpropagation, where the loop cuts sequences.
        time_dim: the dimension of time in the inputs, where the script says so.
        need: how many steps back the target looks, where the user knows it.
    """

    def __init__(
        self,
        seed: int,
        *,
        build: Callable[[int], tuple[nn.Module, Optimizers]],
        batches: Callable[[int], Iterator[Batch]],
        loss: Callable[[Any, Any], Tensor],
        loop: Callable[..., None],
        evaluate: Callable[[nn.Module], float],
        target: float | None,
        steps_to_learn: int,
        batch: Batch | None = None,
        validation: Batch | None = None,
        lengths: Tensor | None = None,
        window: int | None = None,
        time_dim: int | None = None,
        need: int | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.build, self.batches, self.loss = build, batches, loss
        self.model: nn.Module
        self.optimizer: Optimizers
        self.model, self.optimizer = build(seed)
        self.inputs, self.targets = batch if batch is not None else next(batches(seed))
        self.target, self.steps_to_learn = target, steps_to_learn
        self.validation, self.lengths, self.window, self.time_dim = validation, lengths, window, time_dim
        self.need = need
        self.stream = batches(seed)
        self.num_steps_done = 0
        self.carried: Any = None  # what the loop keeps between batches: a hidden state
        self._loop, self._evaluate = loop, evaluate

    def train(self, num_steps: int, **changes: Any) -> None:
        """Goes on with the user's loop where it was, some of its own arguments changed."""
        self._loop(self, num_steps, **changes)
        self.num_steps_done += num_steps

    @property
    def loop_arguments(self) -> tuple[str, ...]:
        """What the loop takes besides the patient and the number of steps."""
        return tuple(inspect.signature(self._loop).parameters)[2:]

    def score(self) -> float:
        """How well the model does on held-out data, the higher the better."""
        return self.score_of(self.model)

    def score_of(self, model: nn.Module) -> float:
        """The same of another model."""
        was_training = model.training
        model.eval()
        with torch.no_grad():
            score = self._evaluate(model)
        model.train(was_training)
        return float(score)

    def factory(self) -> dict[str, Any]:
        """The mapping that `throughtime.diagnose` takes."""
        always = {name: getattr(self, name) for name in ("model", "inputs", "targets", "loss", "optimizer")}
        sometimes = {name: getattr(self, name) for name in ("lengths", "window", "validation", "time_dim", "need")}
        return always | {name: value for name, value in sometimes.items() if value is not None}
