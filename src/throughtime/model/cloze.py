"""The two-sided predictor that fills blanks: one net reads from the left, one from the right, neither the blank."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from throughtime.model.base import BLANK, Head, State, WordPredictor, word_vectors
from throughtime.model.dropout import LockedDropout
from throughtime.model.output import OutputLayer
from throughtime.model.stack import RecurrentStack

__all__ = ["ClozePredictor"]


class ClozePredictor(WordPredictor):
    """`softmax(W f(l_t, r_t))`: `l_t` has read the words up to t - 1, `r_t` those from the far end down to t + 1.

    The left state is carried from window to window; the right net starts afresh at the end of each stretch, `after`
    words behind the last target. The target is an input of neither, so it cannot leak into its own prediction.

    *Reference*: Melamud, Goldberger & Dagan 2016 (context2vec); Mousa & Schuller 2017 (two-sided language models).

    Args:
        counts: (V,) how often each word stands in the training text.
        cell: the name of a cell.
        start: the named initialisation of the cell, or None for its own.
        embedding_size: E.
        hidden_size: H of each side.
        num_layers: recurrent layers of each side.
        dropout: the share of features dropped after every layer and at the input, constant in time.
        sample_size: see `OutputLayer`.
        matmul_dtype: of the large products in training, those of an LSTM's recurrence among them.
    """

    heads = (BLANK,)

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
        self.before, self.after = 1, 16
        self.embedding = word_vectors(len(counts), embedding_size)
        self.input_dropout = LockedDropout(dropout / 2)
        scan = "mixed" if matmul_dtype == torch.bfloat16 else "auto"
        stack = partial(RecurrentStack, cell, embedding_size, hidden_size, num_layers)
        self.left = stack(start=start, dropout=dropout, scan=scan)
        self.right = stack(start=start, dropout=dropout, scan=scan)
        self.join = nn.Sequential(
            nn.Linear(2 * hidden_size, 2 * embedding_size),
            nn.ReLU(),
            LockedDropout(dropout),
            nn.Linear(2 * embedding_size, embedding_size),
        )
        self.output = OutputLayer(self.embedding.weight, counts, sample_size=sample_size, matmul_dtype=matmul_dtype)

    def features(self, ids: Tensor, first: int, last: int, state: State) -> tuple[dict[Head, Tensor], State]:
        """See `WordPredictor.features`; at least one row must stand behind the last target."""
        vectors = self.input_dropout(self.embed(ids))
        left, state = self.left(vectors[first - 1 : last - 1], state)
        backwards = vectors[first + 1 :].flip(0)
        right, _ = self.right(backwards, self.right.initial_state(ids.shape[1]))
        right = right.flip(0)[: last - first]
        return {BLANK: self.join(torch.cat([left, right], dim=-1))}, state

    def initial_state(self, batch: int) -> State:
        """Every layer's left state, each (1, B, H)."""
        return self.left.initial_state(batch)
