"""A word predictor as one step: a word and what is remembered go in, the next word's probabilities come out.

A loop of free length cannot be exported for every cell, a single step can; whoever runs it carries the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.model import NEXT, RecurrentPredictor, State, WindowPredictor, WordPredictor

__all__ = ["SingleStep", "single_step"]


class SingleStep(nn.Module, ABC):
    """`word (B,) int64, state -> log probabilities (B, V) of the word that follows, next state`.

    Attributes:
        state_names: one name for each tensor of the state.
        batch_axes: of each tensor of the state, which axis is B.
    """

    state_names: tuple[str, ...]
    batch_axes: tuple[int, ...]

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before the first word; a text begins with the end of a sentence."""

    @abstractmethod
    def forward(self, word: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step."""


class RecurrentStep(SingleStep):
    """Of a recurrent predictor: the state is that of its layers, each tensor (1, B, ...)."""

    def __init__(self, model: RecurrentPredictor) -> None:
        super().__init__()
        self.model = model
        self.state_names = model.stack.state_names
        self.batch_axes = (1,) * len(self.state_names)

    def initial_state(self, batch: int) -> State:
        """See `SingleStep`."""
        return self.model.initial_state(batch)

    def forward(self, word: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `SingleStep`."""
        hidden, after = self.model.stack.step(self.model.embed(word), state)
        return self.model.output.log_probabilities(self.model.projection(hidden)), *after


class WindowStep(SingleStep):
    """Of a window predictor: the state is the words before, (B, n - 1) int64; at first they are sentence ends."""

    state_names = ("words",)
    batch_axes = (0,)

    def __init__(self, model: WindowPredictor, end: int) -> None:
        super().__init__()
        self.model = model
        self._end = end

    def initial_state(self, batch: int) -> State:
        """See `SingleStep`."""
        return (torch.full((batch, self.model.before - 1), self._end),)

    def forward(self, word: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `SingleStep`."""
        words = torch.cat([state[0], word[:, None]], dim=1)
        features = self.model.next(self.model.embed(words).flatten(1))
        return self.model.output.log_probabilities(features), words[:, 1:]


def single_step(model: WordPredictor, *, end: int) -> SingleStep:
    """The step of a trained model, in eval mode; its weights are the model's own.

    Args:
        model: it predicts the next word.
        end: id of the end of a sentence.

    Raises:
        InputError: if the model has no such step.
    """
    step: SingleStep
    if isinstance(model, WindowPredictor):
        step = WindowStep(model, end)
    elif isinstance(model, RecurrentPredictor):
        step = RecurrentStep(model)
    else:
        assert NEXT not in model.heads
        raise InputError(
            "a cloze model reads both sides of a blank, so it has no single step: export it into a folder, or train "
            "--model recurrent"
        )
    return step.eval()
