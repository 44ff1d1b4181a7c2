"""Which words a prediction depends on: gradient times input, checked against leaving each word out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.text import BLANK
from throughtime.workflow.predictor import CONTEXT_WORDS, Predictor

__all__ = ["Explanation", "WordInfluence", "explain", "influences"]

MOST_LEFT_OUT = 60
"""Words nearest to the one that is guessed of which each is left out once."""


@dataclass(frozen=True)
class WordInfluence:
    """What one word of the context does to a prediction.

    Attributes:
        word: as it stands there.
        gradient_times_input: sum over the features of its vector of gradient times value, in nats: how much of the log
            probability of the answer is due to it, to first order. None for the answer's own place, and for a word
            behind a blank that a left-to-right model reads as nothing but a target.
        left_out: by how many nats the log probability of the answer falls without the word; None where that was not
            tried.
    """

    word: str
    gradient_times_input: float | None
    left_out: float | None


@dataclass(frozen=True)
class Explanation:
    """Why a word was thought likeliest.

    Attributes:
        answer: that word.
        log_probability_nats: of the answer.
        blank: its place among `words`; None for the next word, which stands behind them.
        words: the context, in order.
        agreement: Spearman's rank correlation of the two measures over the words that have both, from -1 to 1; None for
            fewer than 3.
    """

    answer: str
    log_probability_nats: float
    blank: int | None
    words: tuple[WordInfluence, ...]
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "answer": self.answer,
            "log_probability_nats": self.log_probability_nats,
            "blank": self.blank,
            "words": [vars(word) for word in self.words],
            "agreement": self.agreement,
        }


def explain(predictor: Predictor, sentence: str) -> Explanation:
    """Why the likeliest word for the blank of a sentence, or its next word, is that one.

    *Reference*: Denil, Demiraj & de Freitas 2014, arXiv:1412.6815 (gradient times input); Li, Monroe & Jurafsky 2016,
    arXiv:1612.08220 (leaving words out).

    Args:
        predictor: the network, by itself.
        sentence: with one blank `___`, or none.

    Raises:
        InputError: if there are several blanks, or no words, or the model cannot answer.
    """
    tokens = predictor.tokens(sentence)
    blanks = [place for place, token in enumerate(tokens) if token == BLANK]
    if len(blanks) > 1:
        raise InputError(
            f"a prediction is explained for one blank, and the sentence has {len(blanks)}: fill the others"
        )
    if len(tokens) == len(blanks):
        raise InputError("there are no words that a prediction could depend on: give a sentence")
    ids = predictor.vocabulary.encode(tokens)
    guesses = predictor.fill(sentence, 1) if blanks else predictor.next(sentence, 1)
    answer = int(predictor.vocabulary.encode([guesses[0][0]])[0])
    return influences(predictor, ids, blanks[0] if blanks else None, answer, tokens)


def influences(
    predictor: Predictor, ids: np.ndarray, blank: int | None, answer: int, words: Sequence[str]
) -> Explanation:
    """The same of any word at any place.

    Args:
        predictor: the network.
        ids: (N,) the context; the id at `blank` is never looked at.
        blank: the place that is asked for; None for the word behind the last.
        answer: id of the word whose probability is looked at.
        words: (N,) as they are to be shown.
    """
    by_gradient, value = _gradient_times_input(predictor, ids, blank, answer)
    without = _left_out(predictor, ids, blank, answer, value)
    entries = tuple(WordInfluence(*entry) for entry in zip(words, by_gradient, without, strict=True))
    both = [(a, b) for a, b in zip(by_gradient, without, strict=True) if a is not None and b is not None]
    return Explanation(predictor.vocabulary.words[answer], value, blank, entries, _rank_correlation(both))


def _gradient_times_input(
    predictor: Predictor, ids: np.ndarray, blank: int | None, answer: int
) -> tuple[list[float | None], float]:
    """Of each word, and the log probability of the answer.

    A left-to-right model reads the words before a blank once, and those behind it once for each candidate; the last
    of these is a target only. The other models read all of them at once.
    """
    model = predictor.model
    with torch.enable_grad(), _vectors(model.embedding) as read:
        score = predictor.distribution(ids, blank)[answer]
        gradients = torch.autograd.grad(score, read, allow_unused=True)
    parts = [
        torch.zeros(len(vectors)) if gradient is None else (vectors * gradient).sum((1, 2)).detach().cpu()
        for vectors, gradient in zip(read, gradients, strict=True)
    ]
    found: list[float | None] = [None] * len(ids)
    end = len(ids) if blank is None or len(parts) == 1 else blank
    begin = max(0, (end if blank is None else blank) - CONTEXT_WORDS)
    for place in range(begin, end):
        found[place] = float(parts[0][model.before + place - begin])
    if blank is not None:
        found[blank] = None
        for place, value in enumerate(parts[1][1:].tolist() if len(parts) > 1 else (), start=blank + 1):
            if place < len(ids):
                found[place] = value
    return found, float(score.detach())


def _left_out(
    predictor: Predictor, ids: np.ndarray, blank: int | None, answer: int, value: float
) -> list[float | None]:
    target = len(ids) if blank is None else blank
    nearest = sorted((place for place in range(len(ids)) if place != blank), key=lambda place: abs(place - target))
    found: list[float | None] = [None] * len(ids)
    with torch.no_grad():
        for place in nearest[:MOST_LEFT_OUT]:
            shifted = blank if blank is None or place > blank else blank - 1
            without = float(predictor.distribution(np.delete(ids, place), shifted)[answer])
            if np.isfinite(without):  # else the answer is no longer among the candidates that are tried
                found[place] = value - without
    return found


@contextmanager
def _vectors(embedding: nn.Embedding) -> Iterator[list[Tensor]]:
    """The word vectors that a model looks up, call after call."""
    caught: list[Tensor] = []
    handle = embedding.register_forward_hook(lambda _module, _ids, vectors: caught.append(vectors))
    try:
        yield caught
    finally:
        handle.remove()


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, with equals in the order in which they came."""
    if len(pairs) < 3:
        return None
    ranks = np.argsort(np.argsort(np.array(pairs), axis=0, kind="stable"), axis=0, kind="stable")
    return float(np.asarray(np.corrcoef(ranks.T))[0, 1])
