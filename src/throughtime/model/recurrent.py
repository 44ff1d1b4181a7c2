"""The recurrent predictor: all words before the target, as far as its memory holds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from throughtime.model.base import NEXT, Head, State, WordPredictor, word_vectors
from throughtime.model.dropout import LockedDropout
from throughtime.model.output import OutputLayer
from throughtime.model.stack import RecurrentStack

__all__ = ["RecurrentPredictor"]


class RecurrentPredictor(WordPredictor):
    """`softmax(W h_t)`, `h_t` the state of a recurrent stack after the words up to t - 1.

    *Reference*: Mikolov et al. 2010 (recurrent language model); Zaremba et al. 2014, arXiv:1409.2329 (regularised).

    Args:
        counts: (V,) how often each word stands in the training text.
        cell: the name of a cell.
        start: the named initialisation of the cell, or None for its own.
        embedding_size: E.
        hidden_size: H.
        num_layers: recurrent layers.
        dropout: the share of features dropped after every layer and at the input, constant in time.
        sample_size: see `OutputLayer`.
        matmul_dtype: of the large products in training, those of an LSTM's recurrence among them.
    """

    heads = (NEXT,)

    def __init__(
        self,
        counts: Tensor,
        *,
        cell: str,
        start: str | None,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        sample_size: int,
        matmul_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.before, self.after = 1, 0
        self.embedding = word_vectors(len(counts), embedding_size)
        self.input_dropout = LockedDropout(dropout / 2)
        scan = "mixed" if matmul_dtype == torch.bfloat16 else "auto"
        self.stack = RecurrentStack(
            cell, embedding_size, hidden_size, num_layers, start=start, dropout=dropout, scan=scan
        )
        self.projection = nn.Identity() if hidden_size == embedding_size else nn.Linear(hidden_size, embedding_size)
        self.output = OutputLayer(self.embedding.weight, counts, sample_size=sample_size, matmul_dtype=matmul_dtype)

    def features(self, ids: Tensor, first: int, last: int, state: State) -> tuple[dict[Head, Tensor], State]:
        """See `WordPredictor.features`."""
        hidden, state = self.stack(self.input_dropout(self.embed(ids[first - 1 : last - 1])), state)
        return {NEXT: self.projection(hidden)}, state

    def initial_state(self, batch: int) -> State:
        """Every layer's state, each (1, B, H)."""
        return self.stack.initial_state(batch)
