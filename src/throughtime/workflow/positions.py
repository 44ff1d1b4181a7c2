"""Random words of a text, and how well each kind of model guesses them as the next word and as a blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.model import NEXT, Head
from throughtime.ngram import KneserNey
from throughtime.text import Vocabulary
from throughtime.text.segment import MAX_SENTENCE
from throughtime.training import scored_text
from throughtime.workflow.predictor import CONTEXT_WORDS, Predictor

__all__ = [
    "POSITION_WORDS",
    "Hits",
    "choose_positions",
    "ngram_ranks",
    "predictor_ranks",
    "sample_sentences",
    "sentence_around",
]


POSITION_WORDS = 100_000
"""Positions are drawn from this many words at the beginning of a text."""
RIGHT_CONTEXT = 200
"""Words behind the last position that a two-sided model may read."""


@dataclass(frozen=True)
class Hits:
    """How often the word was guessed.

    Attributes:
        top1: share of positions at which it was thought likeliest.
        top5: share at which it was among the five likeliest.
        num_positions: how many were asked.
    """

    top1: float
    top5: float
    num_positions: int

    @classmethod
    def of(cls, ranks: np.ndarray) -> Hits:
        """From the number of words thought likelier than the right one, at each position."""
        return cls(float((ranks < 1).mean()), float((ranks < 5).mean()), len(ranks))


def choose_positions(
    ids: np.ndarray, vocabulary: Vocabulary, count: int, *, seed: int, limit: int | None = None
) -> np.ndarray:
    """Random positions of a text whose words are alphabetic and in the vocabulary, in order.

    Args:
        ids: (N,) the text.
        vocabulary: its words.
        count: how many, or all there are.
        seed: of the choice.
        limit: choose among the first `limit` words.
    """
    special = {vocabulary.unknown_id, *vocabulary.end_ids}
    eligible = np.array(
        [word.isalpha() and index not in special for index, word in enumerate(vocabulary.words)], dtype=bool
    )
    places = np.flatnonzero(eligible[np.asarray(ids[:limit])])
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return np.sort(places[chosen])


def sentence_around(ids: np.ndarray, position: int, vocabulary: Vocabulary) -> tuple[np.ndarray, int]:
    """The ids of the sentence of a position, its end included, and where the position is in it."""
    offset = max(0, position - MAX_SENTENCE)
    near = np.asarray(ids[offset : position + MAX_SENTENCE]).astype(np.int64)
    ends = np.flatnonzero(np.isin(near, vocabulary.end_ids))
    at = position - offset
    begin = int(ends[ends < at][-1]) + 1 if (ends < at).any() else 0
    stop = int(ends[ends >= at][0]) + 1 if (ends >= at).any() else len(near)
    return near[begin:stop], at - begin


def sample_sentences(
    ids: np.ndarray, vocabulary: Vocabulary, count: int, *, seed: int, longest: int = 25
) -> tuple[tuple[np.ndarray, int], ...]:
    """Sentences of a text whose words are all known, and the place of a word in each that is worth asking.

    Args:
        ids: (N,) the text.
        vocabulary: its words.
        count: how many at most.
        seed: of the choice.
        longest: words of a sentence at most; it has 7 at least.
    """
    places = choose_positions(ids, vocabulary, 50 * count, seed=seed + 1, limit=POSITION_WORDS)
    found = []
    for position in np.random.default_rng(seed).permutation(places):
        sentence, at = sentence_around(ids, int(position), vocabulary)
        known = vocabulary.unknown_id not in sentence
        if known and 7 <= len(sentence) <= longest and len(vocabulary.words[sentence[at]]) >= 3:
            found.append((sentence, at))
    return tuple(found[:count])


def ngram_ranks(
    model: KneserNey, ids: np.ndarray, positions: np.ndarray, vocabulary: Vocabulary, head: Head
) -> np.ndarray:
    """How many words the n-gram model thinks likelier than the right one.

    A blank is scored by the words to its left and by those to its right that have it in their context.
    """
    ranks = []
    reach = model.order - 1
    for position in positions:
        sentence, at = sentence_around(ids, int(position), vocabulary)
        left = sentence[:at]
        if head == NEXT:
            scores = model.distribution(left, sentence_start=True)
        else:
            scores = model.fill(left, sentence[at + 1 : at + 1 + reach], sentence_start=True)
        ranks.append(int((scores > scores[sentence[at]]).sum()))
    return np.array(ranks)


def predictor_ranks(predictor: Predictor, ids: np.ndarray, positions: np.ndarray, head: Head) -> np.ndarray | None:
    """How many words a network thinks likelier than the right one, or None if it cannot be asked.

    A left-to-right model fills a blank by rescoring its candidates through the end of the sentence; a word that is not
    among them counts as one that all candidates beat.
    """
    model = predictor.model
    if head in model.heads:
        text = ids[: int(positions.max()) + RIGHT_CONTEXT]
        return np.asarray(scored_text(model, text, padding=predictor.vocabulary.end_ids[0]).rank[head][positions])
    if head == NEXT:
        return None
    return np.array([_rescored_rank(predictor, ids, int(position)) for position in positions])


def _rescored_rank(predictor: Predictor, ids: np.ndarray, position: int) -> int:
    sentence, at = sentence_around(ids, position, predictor.vocabulary)
    before = np.asarray(ids[max(0, position - at - CONTEXT_WORDS) : position - at]).astype(np.int64)
    text = np.concatenate([before, sentence])
    return predictor.blank_rank(text, len(before) + at)
