"""What every word predictor is: features of the words around a target, and one softmax over the vocabulary."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from throughtime.model.output import OutputLayer

__all__ = ["BLANK", "NEXT", "Head", "Sizes", "State", "WordPredictor", "embedded", "word_vectors"]

Head = Literal["next", "blank"]
NEXT: Head = "next"
BLANK: Head = "blank"
State = tuple[Tensor, ...]
"""What a predictor carries from window to window: tensors of shape (layers, B, H); empty for nets without memory."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What all predictors have to choose.

    Attributes:
        embedding_size: E.
        hidden_size: H of a layer.
        num_layers: recurrent layers, or hidden layers of a window model.
        dropout: the share of features dropped after every layer in training.
        sample_size: words sampled for the training softmax, see `OutputLayer`.
        matmul_dtype: of the large products in training, those of an LSTM's recurrence among them.
    """

    embedding_size: int
    hidden_size: int
    num_layers: int = 1
    dropout: float = 0.0
    sample_size: int = 0
    matmul_dtype: torch.dtype = torch.float32

    @property
    def scan(self) -> str:
        """The scan that computes a recurrence so."""
        return "mixed" if self.matmul_dtype == torch.bfloat16 else "auto"


class WordPredictor(nn.Module, ABC):
    """Predicts words of a text from the words around them.

    A batch is a stretch of ids `(S, B)` of which the rows `first <= t < last` are targets; rows before and behind them
    are context. Which context a head may read is its definition: "next" reads rows before the target, "blank" reads
    rows on both sides, and none ever reads the target itself.

    Attributes:
        heads: what the net can be asked; the loss is the mean over them.
        before: rows that must stand ahead of the first target.
        after: rows that should stand behind the last target.
        embedding: the word vectors, (V, E).
        output: the softmax over V words, its matrix tied to the word vectors.

    Args:
        counts: (V,) how often each word stands in the training text.
        sizes: what all predictors have to choose.
        before: see above.
        after: see above.
    """

    heads: ClassVar[tuple[Head, ...]]
    before: int
    after: int
    embedding: nn.Embedding
    output: OutputLayer

    def __init__(self, counts: Tensor, sizes: Sizes, *, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.embedding = word_vectors(len(counts), sizes.embedding_size)
        self.output = OutputLayer(
            self.embedding.weight, counts, sample_size=sizes.sample_size, matmul_dtype=sizes.matmul_dtype
        )

    @abstractmethod
    def features(self, ids: Tensor, first: int, last: int, state: State) -> tuple[dict[Head, Tensor], State]:
        """What the softmax sees.

        Args:
            ids: (S, B) int64.
            first: the first target row; at least `before`.
            last: one past the last target row.
            state: what the rows before `first - 1` left behind.

        Returns:
            (last - first, B, E) for each head, and the state before row `last - 1` is read.
        """

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state of B streams before their first word."""

    def forward(self, ids: Tensor, first: int, last: int, state: State) -> tuple[Tensor, State]:
        """The training loss in nats (mean over targets and heads), and the state to carry on, detached."""
        features, state = self.features(ids, first, last, state)
        targets = ids[first:last].flatten()
        losses = [self.output.loss(features[head].flatten(0, 1), targets) for head in self.heads]
        return torch.stack(losses).mean(), tuple(part.detach() for part in state)

    def embed(self, ids: Tensor) -> Tensor:
        """Word vectors scaled to unit size: a tied matrix is small, as the softmax wants it (Vaswani et al. 2017)."""
        return embedded(self.embedding, ids)


def embedded(embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """As `WordPredictor.embed`, of an embedding by itself."""
    vectors: Tensor = embedding(ids)
    return vectors * math.sqrt(embedding.embedding_dim)


def word_vectors(num_words: int, size: int) -> nn.Embedding:
    """An embedding whose rows have length about one, so that it can serve as the softmax matrix too."""
    embedding = nn.Embedding(num_words, size)
    nn.init.normal_(embedding.weight, std=size**-0.5)
    return embedding
