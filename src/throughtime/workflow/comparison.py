"""Several kinds of predictor on the same text for the same minutes, in one table beside the 5-gram."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.cell import cells
from throughtime.check import one_of
from throughtime.errors import InputError, RecipeError, RunError
from throughtime.model import BLANK, NEXT
from throughtime.ngram import KneserNey
from throughtime.recipe import Recipe
from throughtime.storage import write_json
from throughtime.storage.atomic import make_folder
from throughtime.text import BLANK as BLANK_MARK
from throughtime.text import Corpus, Vocabulary, detokenise, prepare
from throughtime.text.batches import Streams
from throughtime.training import Observer
from throughtime.workflow.counting import count_ngram
from throughtime.workflow.diagnosis import examined_after_training
from throughtime.workflow.positions import (
    POSITION_WORDS,
    Hits,
    choose_positions,
    ngram_ranks,
    predictor_ranks,
    sample_sentences,
)
from throughtime.workflow.predictor import load
from throughtime.workflow.reports import COMPARISON_FILE, report
from throughtime.workflow.run import Run, new_or_nothing, peak_memory_bytes, train

__all__ = ["Comparison", "Filled", "Row", "compare", "contestants"]

NUM_POSITIONS = 100
NUM_SENTENCES = 10


@dataclass(frozen=True, kw_only=True)
class Row:
    """One predictor.

    Attributes:
        name: "5-gram", "window", the name of a cell, or "cloze".
        perplexity: of the next word on the whole test text (of the 5-gram, with no context across sentences); None
            for a cloze model, which has no next word.
        context_carried: whether the words of earlier sentences were context too.
        next_word: hits at random positions, or None for a cloze model.
        blank: hits at the same positions as blanks.
        words_per_second: in training; for the 5-gram, in counting.
        seconds: of training.
        peak_memory_bytes: the largest resident size of the process so far.
        path: the run folder, None for the 5-gram.
    """

    name: str
    perplexity: float | None
    context_carried: bool
    next_word: Hits | None
    blank: Hits
    words_per_second: float
    seconds: float
    peak_memory_bytes: int
    path: Path | None = None


@dataclass(frozen=True)
class Filled:
    """A real sentence with a blank, and what each predictor put there.

    Attributes:
        sentence: readable, with the blank.
        answer: the word that stood there.
        guesses: by predictor.
    """

    sentence: str
    answer: str
    guesses: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        path: the folder of all runs.
        rows: one a predictor, the 5-gram first.
        filled: sentences with blanks.
        unknown_rate: share of words outside the vocabulary in the test text.
        num_words: words of the training, validation and test text.
        vocabulary_size: words that can be predicted.
    """

    path: Path
    rows: tuple[Row, ...]
    filled: tuple[Filled, ...]
    unknown_rate: float
    num_words: dict[str, int]
    vocabulary_size: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = [
            {
                **vars(row),
                "next_word": None if row.next_word is None else vars(row.next_word),
                "blank": vars(row.blank),
                "path": None if row.path is None else str(row.path),
            }
            for row in self.rows
        ]
        return {
            "path": str(self.path),
            "rows": rows,
            "filled": [vars(sentence) for sentence in self.filled],
            "unknown_rate": self.unknown_rate,
            "num_words": self.num_words,
            "vocabulary_size": self.vocabulary_size,
        }


@dataclass(frozen=True)
class _Questions:
    """What every predictor is asked."""

    ids: np.ndarray
    vocabulary: Vocabulary
    positions: np.ndarray
    sentences: tuple[tuple[np.ndarray, int], ...] = field(default=())


def contestants(names: Sequence[str] | None = None) -> list[tuple[str, dict[str, str]]]:
    """The predictors to train, as (name, choices of the recipe): window, every cell, cloze.

    Args:
        names: some of them only, by "window", "cloze" or the name of a cell.

    Raises:
        RecipeError: if a name is unknown (the nearest is offered).
    """
    known = {"window": {"model": "window"}}
    known |= {info.name: {"model": "recurrent", "cell": info.name} for info in cells()}
    known["cloze"] = {"model": "cloze"}
    chosen = known if names is None else [one_of("predictor", name, known) for name in names]
    if not chosen:
        raise RecipeError(f"there is nothing to compare: name some of {', '.join(known)}")
    return [(name, known[name]) for name in chosen]


def compare(
    *texts: str | Path,
    only: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    diagnose: bool = False,
    **choices: object,
) -> Comparison:
    """Train several predictors on one text for the same budget, and ask all of them the same questions.

    Args:
        texts: files, folders, patterns or "-"; none for the built-in corpus.
        only: the predictors, by name; all of them if not given.
        recipe: the choices that all share; the default recipe for 2 minutes each if not given.
        out: a new folder for all runs; `runs/compare`, with a number if that exists, if not given.
        observers: are told what happens in each training.
        diagnose: whether each network is diagnosed after its training, as the command `throughtime train` does; its row
            on the page then has need, reach, use and the verdict, and its own page all of it.
        choices: entries of the recipe by name, such as `minutes=1`.

    Returns:
        A row for each: perplexity, shares of right answers, words a second; and the folder with the runs and the page.

    Raises:
        ThroughtimeError: as `train`.
    """
    if texts:
        choices["paths"] = tuple(str(text) for text in texts)
    shared = (recipe or Recipe().chosen(minutes=2.0)).chosen(**choices)
    entries = contestants(only)
    folder = _free_path(out)
    needed = Streams.words_needed(shared.plan.num_streams, shared.plan.window)
    with new_or_nothing(folder):
        make_folder(folder)
        corpus = prepare(shared.text, folder / "corpus", min_train_words=needed)
    questions = _questions(corpus, shared.seed)
    rows: list[Row] = []
    guesses: dict[str, list[str]] = {}
    begin = time.perf_counter()
    ngram = count_ngram(corpus)
    rows.append(_ngram_row(ngram, corpus, questions, time.perf_counter() - begin))
    guesses["5-gram"] = [_ngram_guess(ngram, *sentence, corpus.vocabulary) for sentence in questions.sentences]
    for name, entry in entries:
        run = train(recipe=shared.chosen(**entry), out=folder / name, observers=observers, corpus=folder / "corpus")
        rows.append(_network_row(name, run, questions))
        if diagnose and entry["model"] != "window":  # which has no recurrence
            with suppress(InputError):  # of a validation text that is too short: its page says that there is none
                examined_after_training(run)
        predictor = load(run.path)
        guesses[name] = [predictor.fill_one(ids, blank, 1)[0][0] for ids, blank in questions.sentences]
    comparison = Comparison(
        folder,
        tuple(rows),
        _filled(questions, guesses),
        corpus.unknown_rate["test"],
        {part: len(getattr(corpus, part)) for part in ("train", "valid", "test")},
        len(corpus.vocabulary),
    )
    write_json(folder / COMPARISON_FILE, comparison.to_json())
    report(folder, measure=False)
    return comparison


def _free_path(out: str | Path | None) -> Path:
    number, path = 1, Path("runs/compare") if out is None else Path(out)
    while out is None and path.exists():
        number += 1
        path = Path(f"runs/compare-{number}")
    if path.exists() and any(path.iterdir()):
        raise RunError(f"{path} is not empty: choose another --out")
    return path


def _questions(corpus: Corpus, seed: int) -> _Questions:
    ids, vocabulary = corpus.test, corpus.vocabulary
    positions = choose_positions(ids, vocabulary, NUM_POSITIONS, seed=seed, limit=POSITION_WORDS)
    sentences = sample_sentences(ids, vocabulary, NUM_SENTENCES, seed=seed)
    return _Questions(ids, vocabulary, positions, sentences)


def _ngram_row(model: KneserNey, corpus: Corpus, questions: _Questions, seconds: float) -> Row:
    nats = -float(model.log_probabilities(corpus.test).mean())
    asked = (questions.ids, questions.positions, questions.vocabulary)
    return Row(
        name="5-gram",
        perplexity=float(np.exp(nats)),
        context_carried=False,
        next_word=Hits.of(ngram_ranks(model, *asked, NEXT)),
        blank=Hits.of(ngram_ranks(model, *asked, BLANK)),
        words_per_second=len(corpus.train) / seconds,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _network_row(name: str, run: Run, questions: _Questions) -> Row:
    predictor = run.predictor()
    next_ranks = predictor_ranks(predictor, questions.ids, questions.positions, NEXT)
    blank_ranks = predictor_ranks(predictor, questions.ids, questions.positions, BLANK)
    assert blank_ranks is not None
    next_word = run.test.get(NEXT)
    return Row(
        name=name,
        perplexity=None if next_word is None else next_word.perplexity,
        context_carried=run.test[predictor.model.heads[0]].context_carried,
        next_word=None if next_ranks is None else Hits.of(next_ranks),
        blank=Hits.of(blank_ranks),
        words_per_second=run.outcome.words_per_second,
        seconds=run.outcome.seconds,
        peak_memory_bytes=run.peak_memory_bytes,
        path=run.path,
    )


def _ngram_guess(model: KneserNey, ids: np.ndarray, blank: int, vocabulary: Vocabulary) -> str:
    scores = model.fill(ids[:blank], ids[blank + 1 :], sentence_start=True)
    scores[[vocabulary.unknown_id, *vocabulary.end_ids]] = -np.inf
    return vocabulary.words[int(scores.argmax())]


def _filled(questions: _Questions, guesses: dict[str, list[str]]) -> tuple[Filled, ...]:
    found = []
    for number, (ids, blank) in enumerate(questions.sentences):
        words = questions.vocabulary.decode(ids[:-1])
        answer, words[blank] = words[blank], BLANK_MARK
        found.append(Filled(detokenise(words), answer, {name: given[number] for name, given in guesses.items()}))
    return tuple(found)
