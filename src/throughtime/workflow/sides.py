"""A run's network as what a diagnosis takes: one that reads from left to right, or either half of a two-sided one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.model import ClozePredictor
from throughtime.model.base import embedded
from throughtime.model.stack import RecurrentStack
from throughtime.workflow.horizons import nats, next_words, spread_words
from throughtime.workflow.predictor import Predictor

__all__ = ["Side", "sides_of"]

_BEFORE, _BEHIND = "before the blank", "behind the blank"


@dataclass(frozen=True)
class Side:
    """A network, stretches of validation text, and what it is asked there.

    Attributes:
        model: it is left as it is.
        inputs: with the sequences along axis 1 of every tensor.
        targets: (T, B) ids.
        loss: (outputs, targets) -> (T, B) nats.
    """

    model: nn.Module
    inputs: Any
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]

    def sequences(self, chosen: slice) -> tuple[Any, Tensor]:
        """Inputs and targets of some of the sequences."""
        inputs = self.inputs
        cut = inputs[:, chosen] if isinstance(inputs, Tensor) else tuple(part[:, chosen] for part in inputs)
        return cut, self.targets[:, chosen]


def sides_of(run: str | Path, predictor: Predictor, steps: int, sequences: int) -> dict[str, Side]:
    """By its name each direction in which the network of a run reads; one without a name from left to right.

    Raises:
        RecipeError: if the network has no recurrence.
        InputError: if the validation text is too short.
    """
    model = predictor.model
    if not isinstance(model, ClozePredictor):
        network, words, targets = next_words(run, predictor, steps, sequences)
        return {"": Side(network, words, targets, network.loss)}
    words = spread_words(run, predictor, steps + model.after, sequences)
    return {
        _BEFORE: _side(model, words, steps, model.left, model.right, turned=False),
        _BEHIND: _side(model, words.flip(0), steps, model.right, model.left, turned=True),
    }


def _side(
    model: ClozePredictor, words: Tensor, steps: int, own: RecurrentStack, other: RecurrentStack, *, turned: bool
) -> Side:
    """Of words in the order in which this side reads them, each the blank once all before it are read."""
    with torch.no_grad():
        beyond = _read(other, model.embed(words[2:].flip(0))).flip(0)[:steps]
    network = _OneSide(model, own, turned=turned)
    return Side(network, (words[:steps], beyond), words[1 : steps + 1], network.loss)


class _OneSide(nn.Module):
    """A two-sided network by what one side reads, ids (T, B), while the other side's net, (T, B, H), stands still."""

    def __init__(self, model: ClozePredictor, own: RecurrentStack, *, turned: bool) -> None:
        super().__init__()
        self.embedding, self.stack, self.join = model.embedding, own, model.join
        self.output = model.output
        self._turned = turned

    def forward(self, ids: Tensor, beyond: Tensor) -> Tensor:
        """What the softmax sees of the word that comes after each, (T, B, E)."""
        read = _read(self.stack, embedded(self.embedding, ids))
        features: Tensor = self.join(torch.cat([beyond, read] if self._turned else [read, beyond], dim=-1))
        return features

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """(T, B), nats."""
        return nats(self.output, features, targets)


def _read(stack: RecurrentStack, vectors: Tensor) -> Tensor:
    return stack(vectors, stack.initial_state(vectors.size(1)))[0]  # type: ignore[no-any-return]  # a module's call is untyped
