"""A trained run on a text: perplexity, top-k and unknown words, alone or mixed with what counting knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.errors import InputError, RecipeError
from throughtime.model import NEXT, Head
from throughtime.recipe import Recipe
from throughtime.storage import RunFolder
from throughtime.text import encode_text, open_corpus
from throughtime.training import Evaluation
from throughtime.training import evaluate as evaluate_model
from throughtime.workflow.mixture import CACHE, CONTINUOUS, NGRAM, Mixture, fit
from throughtime.workflow.predictor import load

__all__ = ["TextEvaluation", "evaluate"]


@dataclass(frozen=True)
class TextEvaluation:
    """How well a run predicts a text.

    Attributes:
        heads: the network alone, for each head it has.
        unknown_rate: share of words outside the vocabulary, scored as `<unk>`.
        num_words: words of the text, sentence ends not counted.
        num_replacements: bytes of the text that could not be decoded, where `errors="replace"` let them pass.
        mixture: with the n-gram model or a cache, if they were asked for.
    """

    heads: dict[Head, Evaluation]
    unknown_rate: float
    num_words: int
    num_replacements: int
    mixture: Mixture | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "heads": {head: evaluation.to_json() for head, evaluation in self.heads.items()},
            "unknown_rate": self.unknown_rate,
            "num_words": self.num_words,
            "num_replacements": self.num_replacements,
            "mixture": None if self.mixture is None else self.mixture.to_json(),
        }


def evaluate(
    run: str | Path,
    *texts: str | Path,
    ngram: bool = False,
    cache: bool = False,
    continuous_cache: bool = False,
    device: str = "auto",
    threads: int = 0,
    **choices: object,
) -> TextEvaluation:
    """Score a text with a run.

    Args:
        run: the folder of the run.
        texts: files, folders, patterns or "-"; none for the run's own test part.
        ngram: mix in the 5-gram model of the run's training text.
        cache: mix in a unigram cache of the words just seen.
        continuous_cache: mix in a cache of the last 2,000 words, each counting for more the more its context was like
            this one.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.
        choices: how the text is read (`encoding`, `errors`, `max_bytes`), where it differs from the run's.

    Returns:
        For each question (next word, blank) the perplexity, its natural log in nats a word, and the shares, from 0 to
        1, of words that were thought likeliest or among the five likeliest; and the share of unknown words.

    Raises:
        InputError: if the text cannot be read, or a mixture is asked of a cloze model.
        RecipeError: if it is said how a text is read, but none is given.
        RunError: if the run cannot be used.
    """
    predictor = load(run, device=device, threads=threads)
    folder = RunFolder.open(Path(run))
    corpus = open_corpus(folder.corpus_path)
    wanted = {NGRAM: ngram, CACHE: cache, CONTINUOUS: continuous_cache}
    parts = [name for name, is_wanted in wanted.items() if is_wanted]
    if parts and NEXT not in predictor.model.heads:
        raise InputError("n-gram and caches predict the next word, which a cloze model has not: leave them out")
    if choices and not texts:
        raise RecipeError(
            f"{', '.join(choices)} say how a text is read, and there is none: name one, or leave them out"
        )
    if texts:
        paths = tuple(str(text) for text in texts)
        read = encode_text(Recipe.read(folder.recipe_path).chosen(**choices, paths=paths).text, corpus.vocabulary)
        ids, unknown_rate = read.ids, read.unknown_rate
        num_words, num_replacements = read.num_words, read.num_replacements
    else:
        ids, unknown_rate = corpus.test, corpus.unknown_rate["test"]
        num_words, num_replacements = len(ids) - int(np.isin(ids, corpus.vocabulary.end_ids).sum()), 0
    heads = evaluate_model(predictor.model, ids, padding=corpus.vocabulary.end_ids[0])
    mixture = fit(predictor, corpus.valid, parts).on(ids) if parts else None
    return TextEvaluation(heads, unknown_rate, num_words, num_replacements, mixture)
