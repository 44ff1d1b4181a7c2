"""One look at the gradient through time of a word predictor, on stretches of a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.measurement import GradientRecord
from throughtime.measurement.model_copy import copied
from throughtime.measurement.quick_gradient import quick_gradient
from throughtime.model import ClozePredictor, RecurrentPredictor, WordPredictor
from throughtime.model.stack import RecurrentStack

__all__ = ["FEWEST_WORDS", "look", "looked_at_words"]

FEWEST_WORDS = 2
"""On a side of the word in question; from fewer nothing can be told."""


def looked_at_words(model: WordPredictor, text: np.ndarray, num_words: int, sequences: int) -> Tensor | None:
    """Stretches of a text (S, B), spread evenly, for `look`; None where it is too short or the model has no recurrence.

    Args:
        model: to be looked at.
        text: (N,) ids.
        num_words: that a state may have read at most; fewer where the text is shorter.
        sequences: B.
    """
    if not isinstance(model, RecurrentPredictor | ClozePredictor):
        return None
    sides = 2 if isinstance(model, ClozePredictor) else 1
    num_words = min(num_words, (len(text) - 1) // sides)
    if num_words < FEWEST_WORDS:
        return None
    length = sides * num_words + 1
    begins = torch.linspace(0, len(text) - length, sequences).long()
    rows = begins + torch.arange(length).unsqueeze(1)
    return torch.from_numpy(text[rows.numpy()].astype("int64"))


def look(model: WordPredictor, rows: Tensor) -> GradientRecord:
    """How the loss at one word of each stretch depends on the states that the words around it left behind.

    From left to right that word is the last of a stretch; a two-sided model has it in the middle, and is measured on
    either side of it.

    Args:
        model: a copy of it is measured in eval mode.
        rows: from `looked_at_words`.

    Raises:
        InputError: if numbers are not finite.
    """
    ids = rows.to(model.output.weight.device)
    if isinstance(model, ClozePredictor):
        return _at_a_blank(model, ids)
    assert isinstance(model, RecurrentPredictor)
    reader = _Reader("stack", model.stack, model.projection)
    with torch.no_grad():
        vectors = model.embed(ids[:-1])
    return quick_gradient(reader, vectors, lambda features: _nats(model, features, ids[-1]))


class _Reader(nn.Module):
    """Word vectors (T, B, E) to features by a copy of a stack in eval mode; `name` is the stack's in what is found."""

    def __init__(self, name: str, stack: RecurrentStack, tail: nn.Module | None = None) -> None:
        super().__init__()
        self._name = name
        self.add_module(name, copied(stack).eval())
        self.tail = nn.Identity() if tail is None else copied(tail).eval()
        self._initial_state = stack.initial_state

    def forward(self, vectors: Tensor) -> Tensor:
        """See above."""
        stack: Any = self.get_submodule(self._name)
        features: Tensor = self.tail(stack(vectors, self._initial_state(vectors.size(1)))[0])
        return features


def _at_a_blank(model: ClozePredictor, ids: Tensor) -> GradientRecord:
    """By either side while the other stands still, which together is the gradient by both."""
    middle = len(ids) // 2
    join = copied(model.join).eval()
    with torch.no_grad():
        vectors = model.embed(ids)
        read = {"left": vectors[:middle], "right": vectors[middle + 1 :].flip(0)}
        readers = {"left": _Reader("left", model.left), "right": _Reader("right", model.right)}
        known = {side: readers[side](read[side])[-1] for side in read}
    found = {}
    for side, reader in readers.items():

        def loss(features: Tensor, side: str = side) -> Tensor:
            both = known | {side: features}
            return _nats(model, join(torch.cat([both["left"], both["right"]], dim=-1)), ids[middle])

        found[side] = quick_gradient(reader, read[side], loss)
    turned = {name: _turned(values) for name, values in found["right"].values.items()}
    return replace(found["left"], values=found["left"].values | turned)


def _turned(values: dict[str, Any]) -> dict[str, Any]:
    """Of a net that reads from the end to the beginning: its steps in the order of time."""
    by_step = values["log10_state_gradient"] or {}
    return values | {"backward": True, "log10_state_gradient": {part: curve[::-1] for part, curve in by_step.items()}}


def _nats(model: WordPredictor, features: Tensor, targets: Tensor) -> Tensor:
    weight, bias = model.output.weight.detach(), model.output.bias.detach()
    return nn.functional.cross_entropy(nn.functional.linear(features, weight, bias), targets, reduction="none")
