"""Perplexity and top-k of a model on a text: exact softmax, every word scored once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from throughtime.model import NEXT, Head, State, WordPredictor
from throughtime.text.batches import whole_text

if TYPE_CHECKING:
    from throughtime.training.processes import Processes

__all__ = ["Evaluation", "ScoredPart", "ScoredText", "contexts", "evaluate", "scored_parts", "scored_text"]

WINDOW = 64
NUM_STREAMS = 32


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well a head predicts a text.

    Attributes:
        head: "next" or "blank".
        loss_nats: mean negative log probability of a word; the perplexity of a blank is of another kind than that of
            the next word, and the two are never compared.
        top1: share of words that were thought likeliest.
        top5: share of words among the five likeliest.
        num_words: words scored, sentence ends and unknown words included.
        context_carried: whether the words of earlier sentences were context too.
    """

    head: Head
    loss_nats: float
    top1: float
    top5: float
    num_words: int
    context_carried: bool

    @classmethod
    def of(cls, part: ScoredPart, head: Head, *, context_carried: bool) -> Evaluation:
        """From words of a text that were scored."""
        rank = part.rank[head]
        return cls(
            head=head,
            loss_nats=-float(part.log_probability[head].mean()),
            top1=float((rank < 1).mean()),
            top5=float((rank < 5).mean()),
            num_words=len(rank),
            context_carried=context_carried,
        )

    @property
    def context(self) -> str:
        """What is read of the text before, in words."""
        return "carried across sentences" if self.context_carried else "the window alone"

    @property
    def perplexity(self) -> float:
        """`exp(loss_nats)`."""
        return math.exp(min(self.loss_nats, 700.0))

    def to_json(self) -> dict[str, Any]:
        """Plain values, the perplexity among them."""
        return {
            "head": self.head,
            "perplexity": self.perplexity,
            "loss_nats": self.loss_nats,
            "top1": self.top1,
            "top5": self.top5,
            "num_words": self.num_words,
            "context_carried": self.context_carried,
        }


@dataclass(frozen=True)
class ScoredPart:
    """Some words of a text, scored.

    Attributes:
        positions: (N,) int64, where each stands in the text.
        log_probability: (N,) float64, natural log, for every head.
        rank: (N,) int64, for every head: how many words were thought likelier.
    """

    positions: np.ndarray
    log_probability: dict[Head, np.ndarray]
    rank: dict[Head, np.ndarray]


@torch.no_grad()
def scored_parts(
    model: WordPredictor,
    ids: np.ndarray,
    *,
    padding: int,
    limit: int | None = None,
    processes: Processes | None = None,
) -> Iterator[ScoredPart]:
    """Score every word of a text once with every head of a model, in parts and in no particular order.

    The text is read in up to 32 parallel streams, the state carried along each; a stream but the first begins without
    the words before it, which makes the figures a trifle worse than the truth.

    Args:
        model: the predictor, whose mode is restored.
        ids: (N,) the text.
        padding: the id that stands outside the text.
        limit: score about this many words only, from all over the text.
        processes: shares the streams out, if given: each process scores its own.
    """
    for read in _read_parts(model, ids, padding=padding, limit=limit, processes=processes):
        scores = {head: model.output.score(vectors, read.targets) for head, vectors in read.features.items()}
        yield ScoredPart(
            read.positions[read.counts],
            {head: score.log_probability.double().cpu().numpy()[read.counts] for head, score in scores.items()},
            {head: score.rank.cpu().numpy()[read.counts] for head, score in scores.items()},
        )


@dataclass(frozen=True)
class ScoredText:
    """The words of a text, scored, in their order.

    Attributes:
        log_probability: (N,) float64, natural log, for every head; NaN where none was scored.
        rank: (N,) int64, for every head: how many words were thought likelier; -1 where none was scored.
    """

    log_probability: dict[Head, np.ndarray]
    rank: dict[Head, np.ndarray]


def scored_text(model: WordPredictor, ids: np.ndarray, *, padding: int, limit: int | None = None) -> ScoredText:
    """Score the words of a text with every head of a model; the arguments are those of `scored_parts`."""
    found = ScoredText(
        {head: np.full(len(ids), np.nan) for head in model.heads},
        {head: np.full(len(ids), -1, dtype=np.int64) for head in model.heads},
    )
    for part in scored_parts(model, ids, padding=padding, limit=limit):
        for head in model.heads:
            found.log_probability[head][part.positions] = part.log_probability[head]
            found.rank[head][part.positions] = part.rank[head]
    return found


@torch.no_grad()
def contexts(model: WordPredictor, ids: np.ndarray, *, padding: int) -> np.ndarray:
    """(N, E) float32: what the softmax sees when a model predicts each word of a text from those before it.

    Args:
        model: a predictor of the next word, whose mode is restored.
        ids: (N,) the text, read as `scored_parts` reads it.
        padding: the id that stands outside the text.
    """
    found = np.empty((len(ids), model.embedding.embedding_dim), dtype=np.float32)
    for read in _read_parts(model, ids, padding=padding):
        found[read.positions[read.counts]] = read.features[NEXT].float().cpu().numpy()[read.counts]
    return found


@dataclass(frozen=True)
class _ReadPart:
    """Rows of all streams: where they stand, -1 for those that do not count, and (N, E) features for every head."""

    positions: np.ndarray
    targets: Tensor
    features: dict[Head, Tensor]

    @property
    def counts(self) -> np.ndarray:
        """(N,) bool."""
        return self.positions >= 0


def _read_parts(
    model: WordPredictor,
    ids: np.ndarray,
    *,
    padding: int,
    limit: int | None = None,
    processes: Processes | None = None,
) -> Iterator[_ReadPart]:
    device = model.embedding.weight.device
    rank, size = (processes.rank, processes.size) if processes is not None else (0, 1)
    was_training = model.training
    model.eval()
    state: State = ()
    around = {"before": model.before, "after": 2 * model.after}
    try:
        for stretch in whole_text(ids, num_streams=NUM_STREAMS, window=WINDOW, padding=padding, limit=limit, **around):
            own = np.ascontiguousarray(stretch.ids[:, rank::size])
            if own.shape[1] == 0:
                break
            rows = torch.from_numpy(own).to(device)
            if stretch.starts:
                state = model.initial_state(rows.shape[1])
            features, state = model.features(rows, stretch.first, stretch.last, state)
            yield _ReadPart(
                stretch.positions[:, rank::size].ravel(),
                rows[stretch.first : stretch.last].flatten(),
                {head: features[head].flatten(0, 1) for head in model.heads},
            )
    finally:
        model.train(was_training)


def evaluate(
    model: WordPredictor,
    ids: np.ndarray,
    *,
    padding: int,
    limit: int | None = None,
    processes: Processes | None = None,
) -> dict[Head, Evaluation]:
    """How well every head of a model predicts a text; the arguments are those of `scored_parts`."""
    sums = {head: torch.zeros(4, dtype=torch.float64) for head in model.heads}
    for part in scored_parts(model, ids, padding=padding, limit=limit, processes=processes):
        for head in model.heads:
            rank = part.rank[head]
            nats = -part.log_probability[head].sum()
            sums[head] += torch.tensor([nats, (rank < 1).sum(), (rank < 5).sum(), len(rank)], dtype=torch.float64)
    if processes is not None:
        sums = {head: processes.sum(tally) for head, tally in sums.items()}
    carried = bool(model.initial_state(1))
    return {head: _evaluation(head, tally, carried=carried) for head, tally in sums.items()}


def _evaluation(head: Head, tally: torch.Tensor, *, carried: bool) -> Evaluation:
    nats, top1, top5, num_words = tally.tolist()
    return Evaluation(
        head=head,
        loss_nats=nats / num_words,
        top1=top1 / num_words,
        top5=top5 / num_words,
        num_words=int(num_words),
        context_carried=carried,
    )
