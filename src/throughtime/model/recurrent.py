"""The recurrent predictor: all words before the target, as far as its memory holds them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.model.base import NEXT, Head, Sizes, State, WordPredictor
from throughtime.model.dropout import LockedDropout
from throughtime.model.stack import RecurrentStack

__all__ = ["RecurrentPredictor"]


class RecurrentPredictor(WordPredictor):
    """`softmax(W h_t)`, `h_t` the state of a recurrent stack after the words up to t - 1.

    *Reference*: Mikolov et al. 2010 (recurrent language model); Zaremba et al. 2014, arXiv:1409.2329 (regularised).

    Args:
        counts: (V,) how often each word stands in the training text.
        sizes: of the net.
        cell: the name of a cell.
        start: the named initialisation of the cell, or None for its own.
    """

    heads = (NEXT,)

    def __init__(self, counts: Tensor, sizes: Sizes, *, cell: str, start: str | None = None) -> None:
        super().__init__(counts, sizes, before=1, after=0)
        self.input_dropout = LockedDropout(sizes.dropout / 2)
        self.stack = RecurrentStack(cell, sizes, start=start)
        square = sizes.hidden_size == sizes.embedding_size
        self.projection = nn.Identity() if square else nn.Linear(sizes.hidden_size, sizes.embedding_size)
        self.matmul_dtype = sizes.matmul_dtype

    def features(self, ids: Tensor, first: int, last: int, state: State) -> tuple[dict[Head, Tensor], State]:
        """See `WordPredictor.features`."""
        hidden, state = self.stack(self.input_dropout(self.embed(ids[first - 1 : last - 1])), state)
        return {NEXT: self._projected(hidden)}, state

    def initial_state(self, batch: int) -> State:
        """Every layer's state, each (1, B, H)."""
        return self.stack.initial_state(batch)

    def _projected(self, hidden: Tensor) -> Tensor:
        if not (self.training and isinstance(self.projection, nn.Linear)):
            projected: Tensor = self.projection(hidden)
            return projected
        dtype, weight = self.matmul_dtype, self.projection.weight
        return F.linear(hidden.to(dtype), weight.to(dtype)).to(hidden.dtype) + self.projection.bias
