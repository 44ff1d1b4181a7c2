"""The feedforward predictor: a fixed window of words before the target, and one on either side of a blank."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from throughtime.model.base import BLANK, NEXT, Head, Sizes, State, WordPredictor

__all__ = ["WindowPredictor"]


class WindowPredictor(WordPredictor):
    """`softmax(W f(e_{t-n}, ..., e_{t-1}))` for the next word, and the same over both sides for a blank.

    The two heads share the word vectors and the softmax. A departure from the paper: no direct connections from the
    embeddings to the output, a ReLU instead of tanh, and an output matrix that is tied to the embedding.

    *Reference*: Bengio, Ducharme, Vincent & Jauvin 2003, JMLR 3:1137-1155.

    Args:
        counts: (V,) how often each word stands in the training text.
        sizes: of the net.
        words: n, the words read on a side.
    """

    heads = (NEXT, BLANK)

    def __init__(self, counts: Tensor, sizes: Sizes, *, words: int) -> None:
        super().__init__(counts, sizes, before=words, after=words)
        read, layers = words * sizes.embedding_size, [sizes.hidden_size] * sizes.num_layers
        self.next = _hidden_layers([read, *layers, sizes.embedding_size], sizes.dropout)
        self.blank = _hidden_layers([2 * read, *layers, sizes.embedding_size], sizes.dropout)

    def features(self, ids: Tensor, first: int, last: int, state: State) -> tuple[dict[Head, Tensor], State]:
        """See `WordPredictor.features`; there is no state."""
        vectors = self.embed(ids)
        left = _windows(vectors[first - self.before : last - 1], self.before)
        features = {NEXT: self.next(left)}
        if len(ids) >= last + self.after:
            right = _windows(vectors[first + 1 : last + self.after], self.after)
            features[BLANK] = self.blank(torch.cat([left, right], dim=-1))
        return features, state

    def initial_state(self, batch: int) -> State:  # noqa: ARG002 - a net without memory has none, whatever the batch
        """Nothing."""
        return ()


def _hidden_layers(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _windows(vectors: Tensor, words: int) -> Tensor:
    """(T + words - 1, B, E) to (T, B, words * E): the vectors of each window, side by side."""
    return vectors.unfold(0, words, 1).movedim(-1, 2).flatten(2)
