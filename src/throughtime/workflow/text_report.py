"""What a trained network makes of the words of its test text, beside the counting model of its training text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from throughtime.model import BLANK, NEXT, Head
from throughtime.storage import RunFolder
from throughtime.text import Corpus, Vocabulary, open_corpus
from throughtime.training import scored_text
from throughtime.workflow.explanation import influences
from throughtime.workflow.positions import (
    Hits,
    choose_positions,
    ngram_ranks,
    predictor_ranks,
    sample_sentences,
)
from throughtime.workflow.predictor import Predictor, load

if TYPE_CHECKING:
    from throughtime.reporting import TextRecord

__all__ = ["measure_text"]

NUM_POSITIONS = 1000
"""Random words at which the next word, and by a two-sided network a blank, is asked for."""
FEWEST_RESCORED, MOST_RESCORED, RESCORED_NUMBERS = 20, 100, 2e8
"""Blanks that a left-to-right network fills, each by 200 readings of the rest of its sentence: so many that, times the
numbers in the matrix of words, they make this, which bounds the time."""
FEWEST_SCORED, MOST_SCORED, SCORED_NUMBERS = 10_000, 100_000, 2e11
"""Words that are scored, likewise."""
NUM_BLANKS, LONGEST_BLANK = 3, 12
"""Sentences that are shown, and their words at most: leaving out each of them takes a filling of the blank, so that the
time grows as the square of the length."""
NUM_GUESSES = 4
_NO_HITS = {f"{head}_top{count}": None for head in (NEXT, BLANK) for count in (1, 5)}
_PLACES = (1, 2, 3, 4, 6, 9, 17, 33)
_FREQUENCIES = (0, 1, 10, 100, 1000, 10_000, 100_000)


def measure_text(run: str | Path, *, seed: int = 0, device: str = "auto", threads: int = 0) -> TextRecord:
    """Perplexity, hits at random words, samples of blanks, and where in the text it is surprised.

    Args:
        run: the folder of the run.
        seed: of words and sentences that are drawn.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.

    Raises:
        RunError: if the run cannot be used.
    """
    from throughtime.reporting import TextRecord

    predictor = load(run, device=device, threads=threads)
    corpus = open_corpus(RunFolder.open(Path(run)).corpus_path)
    ids = np.asarray(corpus.test[:MOST_SCORED])
    head: Head = predictor.model.heads[0]
    found = _Scored.of(predictor, ids)
    nats = {"network": found.nats}
    if head == NEXT:
        nats["5-gram"] = -np.asarray(predictor.ngram.log_probabilities(ids))
    places = _places_in_sentences(ids, corpus.vocabulary.end_ids)
    counts = np.array(corpus.vocabulary.counts)[ids]
    scored = found.scored
    means = {name: float(values[scored].mean()) for name, values in nats.items()}
    return TextRecord(
        rows=tuple(_rows(predictor, corpus.vocabulary, ids, found, means, seed)),
        blanks=tuple(_blanks(predictor, corpus, seed)),
        by_place=tuple(_binned(places, _PLACES, nats, scored, _place_name)),
        by_frequency=tuple(_binned(counts, _FREQUENCIES, nats, scored, _frequency_name)),
        unknown_rate=corpus.unknown_rate["test"],
        num_words=int(scored.sum()),
    )


@dataclass(frozen=True)
class _Scored:
    """What one reading of a text gave.

    Attributes:
        nats: (N,) minus the log probability of each word, by the first head; NaN where none was scored.
        ranks: (N,) for every head, how many words were likelier; -1 where none was scored.
    """

    nats: np.ndarray
    ranks: dict[Head, np.ndarray]

    @classmethod
    def of(cls, predictor: Predictor, ids: np.ndarray) -> _Scored:
        model, padding = predictor.model, predictor.vocabulary.end_ids[0]
        limit = _within(FEWEST_SCORED, MOST_SCORED, SCORED_NUMBERS, predictor)
        found = scored_text(model, ids, padding=padding, limit=limit if limit < len(ids) else None)
        return cls(-found.log_probability[model.heads[0]], found.rank)

    @property
    def scored(self) -> np.ndarray:
        return np.asarray(np.isfinite(self.nats))


def _within(fewest: int, most: int, numbers: float, predictor: Predictor) -> int:
    """How often a whole softmax can be asked for, where each has as many numbers as the matrix of words."""
    return max(fewest, min(most, int(numbers / predictor.model.output.weight.numel())))


def _rows(
    predictor: Predictor, vocabulary: Vocabulary, ids: np.ndarray, found: _Scored, nats: dict[str, float], seed: int
) -> list[dict[str, Any]]:
    """Hits are counted at the same random words for both, and their number is told."""
    asked = _asked(predictor, vocabulary, ids, found.scored, seed)
    context = "carried across sentences" if predictor.model.initial_state(1) else "the window alone"
    rows = []
    for name, asked_context in (("network", context), ("5-gram", "the sentence")):
        row: dict[str, Any] = {"name": name, "context": asked_context, "perplexity": None, **_NO_HITS}
        if name in nats:
            row["perplexity"] = math.exp(min(nats[name], 700.0))
        for head, positions in asked.items():
            row[f"{head}_words"] = len(positions)
            if not len(positions):
                continue
            if name == "5-gram":
                ranks: np.ndarray | None = ngram_ranks(predictor.ngram, ids, positions, vocabulary, head)
            elif head in found.ranks:
                ranks = found.ranks[head][positions]
            else:
                ranks = predictor_ranks(predictor, ids, positions, head)
            if ranks is not None:
                hits = Hits.of(ranks)
                row |= {f"{head}_top1": hits.top1, f"{head}_top5": hits.top5}
        rows.append(row)
    return rows


def _asked(
    predictor: Predictor, vocabulary: Vocabulary, ids: np.ndarray, scored: np.ndarray, seed: int
) -> dict[Head, np.ndarray]:
    """Random positions, of known words that were scored, at which each head is asked."""
    eligible = choose_positions(ids, vocabulary, len(ids), seed=seed)
    drawn = np.random.default_rng(seed).permutation(eligible[scored[eligible]])[:NUM_POSITIONS]
    rescored = BLANK not in predictor.model.heads
    most = _within(FEWEST_RESCORED, MOST_RESCORED, RESCORED_NUMBERS, predictor)
    return {NEXT: drawn, BLANK: drawn[:most] if rescored else drawn}


def _blanks(predictor: Predictor, corpus: Corpus, seed: int) -> list[dict[str, Any]]:
    found = []
    for sentence, at in sample_sentences(corpus.test, corpus.vocabulary, NUM_BLANKS, seed=seed, longest=LONGEST_BLANK):
        guesses = predictor.fill_one(sentence, at, NUM_GUESSES)
        words = [_shown(word) for word in corpus.vocabulary.decode(sentence)]
        answer = int(corpus.vocabulary.encode([guesses[0][0]])[0])
        why = influences(predictor, sentence, at, answer, words)
        found.append(
            {
                "words": tuple(words),
                "blank": at,
                "guesses": tuple((word, probability) for word, probability in guesses),
                "influence": tuple(word.gradient_times_input for word in why.words),
                "left_out": tuple(word.left_out for word in why.words),
                "agreement": why.agreement,
            }
        )
    return found


def _binned(
    values: np.ndarray,
    edges: Sequence[int],
    nats: dict[str, np.ndarray],
    scored: np.ndarray,
    name: Callable[[int, int | None], str],
) -> list[dict[str, Any]]:
    found = []
    for begin, end in zip(edges, (*edges[1:], None), strict=True):
        inside = scored & (values >= begin) & (values < (end if end is not None else np.inf))
        if inside.any():
            means = {key: math.exp(min(float(of_words[inside].mean()), 700.0)) for key, of_words in nats.items()}
            found.append({"bin": name(begin, end), "num_words": int(inside.sum()), "perplexity": means})
    return found


def _places_in_sentences(ids: np.ndarray, end_ids: Sequence[int]) -> np.ndarray:
    """(N,) 1 for the first word of a sentence."""
    ends = np.isin(ids, end_ids)
    after = np.concatenate([[True], ends[:-1]])
    begins = np.maximum.accumulate(np.where(after, np.arange(len(ids)), 0))
    return np.asarray(np.arange(len(ids)) - begins + 1)


def _place_name(begin: int, end: int | None) -> str:
    return f"{begin}+" if end is None else str(begin) if end == begin + 1 else f"{begin}–{end - 1}"


def _frequency_name(begin: int, end: int | None) -> str:
    """Short enough for the axis on a phone."""
    if end == 1:
        return "never"
    first, last = (f"{number // 1000}k" if number >= 1000 else str(number) for number in (begin, (end or 1) - 1))
    return f"{first}+" if end is None else f"{first}–{last}"


def _shown(word: str) -> str:
    """The end of a sentence or a paragraph as a mark."""
    return {"</s>": "⏎", "</p>": "¶"}.get(word, word)
