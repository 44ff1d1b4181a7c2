"""The two-sided predictor that fills blanks: one net reads from the left, one from the right, neither the blank."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from throughtime.model.base import BLANK, Head, Sizes, State, WordPredictor
from throughtime.model.dropout import LockedDropout
from throughtime.model.stack import RecurrentStack

__all__ = ["ClozePredictor"]


class ClozePredictor(WordPredictor):
    """`softmax(W f(l_t, r_t))`: `l_t` has read the words up to t - 1, `r_t` those from the far end down to t + 1.

    The left state is carried from window to window; the right net starts afresh at the end of each stretch, `after`
    words behind the last target. The target is an input of neither, so it cannot leak into its own prediction.

    *Reference*: Melamud, Goldberger & Dagan 2016 (context2vec); Mousa & Schuller 2017 (two-sided language models).

    Args:
        counts: (V,) how often each word stands in the training text.
        sizes: of the net on each side.
        cell: the name of a cell.
        start: the named initialisation of the cell, or None for its own.
    """

    heads = (BLANK,)

    def __init__(self, counts: Tensor, sizes: Sizes, *, cell: str, start: str | None = None) -> None:
        super().__init__(counts, sizes, before=1, after=16)
        E, H = sizes.embedding_size, sizes.hidden_size
        self.input_dropout = LockedDropout(sizes.dropout / 2)
        self.left = RecurrentStack(cell, sizes, start=start)
        self.right = RecurrentStack(cell, sizes, start=start)
        self.join = nn.Sequential(nn.Linear(2 * H, 2 * E), nn.ReLU(), LockedDropout(sizes.dropout), nn.Linear(2 * E, E))

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
