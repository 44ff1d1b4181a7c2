"""A trained run on a text: perplexity, top-k and unknown words, alone or mixed with what counting knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.errors import InputError, RecipeError
from throughtime.model import NEXT, Head
from throughtime.ngram import UnigramCache, mixture_weights
from throughtime.recipe import Recipe
from throughtime.storage import RunFolder
from throughtime.text import Corpus, encode_text, open_corpus
from throughtime.training import Evaluation, scored_parts
from throughtime.training import evaluate as evaluate_model
from throughtime.workflow.predictor import Predictor, load

__all__ = ["Mixture", "TextEvaluation", "evaluate"]

WORDS_TO_FIT = 200_000
"""Words of the validation text on which the weights of a mixture are fitted at most."""


@dataclass(frozen=True)
class Mixture:
    """The network interpolated with an n-gram model or a cache, `p = sum_k w_k p_k`.

    Attributes:
        weights: of each part, by name; fitted on the validation text of the run.
        perplexity: of the mixture on the text that was evaluated.
    """

    weights: dict[str, float]
    perplexity: float


@dataclass(frozen=True)
class TextEvaluation:
    """How well a run predicts a text.

    Attributes:
        heads: the network alone, for each head it has.
        unknown_rate: share of words outside the vocabulary, scored as `<unk>`.
        num_words: words of the text, sentence ends not counted.
        num_replacements: bytes of the text that could not be decoded, where `errors="replace"` let them pass.
        mixture: with the n-gram model or the cache, if they were asked for.
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
            "mixture": None
            if self.mixture is None
            else {"weights": self.mixture.weights, "perplexity": self.mixture.perplexity},
        }


def evaluate(
    run: str | Path,
    *texts: str | Path,
    ngram: bool = False,
    cache: bool = False,
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
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.
        choices: how the text is read (`encoding`, `errors`, `max_bytes`), where it differs from the run's.

    Raises:
        InputError: if the text cannot be read, or a mixture is asked of a cloze model.
        RecipeError: if it is said how a text is read, but none is given.
        RunError: if the run cannot be used.
    """
    predictor = load(run, device=device, threads=threads)
    folder = RunFolder.open(Path(run))
    corpus = open_corpus(folder.corpus_path)
    if (ngram or cache) and NEXT not in predictor.model.heads:
        raise InputError("n-gram and cache predict the next word, which a cloze model has not: leave them out")
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
    mixture = _mixture(predictor, corpus, ids, ngram=ngram, cache=cache) if ngram or cache else None
    return TextEvaluation(heads, unknown_rate, num_words, num_replacements, mixture)


def _mixture(predictor: Predictor, corpus: Corpus, ids: np.ndarray, *, ngram: bool, cache: bool) -> Mixture:
    fitted_on = corpus.valid[:WORDS_TO_FIT]
    names = ["network"] + ["ngram"] * ngram + ["cache"] * cache
    held_out = _target_probabilities(predictor, fitted_on, ngram=ngram, cache=cache)
    weights = mixture_weights(held_out)
    mixed = sum(
        weight * part
        for weight, part in zip(weights, _target_probabilities(predictor, ids, ngram=ngram, cache=cache), strict=True)
    )
    perplexity = math.exp(-float(np.log(mixed).mean()))
    return Mixture(dict(zip(names, map(float, weights), strict=True)), perplexity)


def _target_probabilities(predictor: Predictor, ids: np.ndarray, *, ngram: bool, cache: bool) -> list[np.ndarray]:
    """(N,) float64 for each part of the mixture: the probability that it gave the word at each position."""
    network = np.empty(len(ids))
    for part in scored_parts(predictor.model, ids, padding=predictor.vocabulary.end_ids[0]):
        network[part.positions] = np.exp(part.log_probability[NEXT])
    parts = [network]
    if ngram:
        parts.append(np.exp(predictor.ngram.log_probabilities(ids)))
    if cache:
        parts.append(UnigramCache(len(predictor.vocabulary)).target_probabilities(ids))
    return parts
