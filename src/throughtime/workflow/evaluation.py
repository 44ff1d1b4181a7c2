"""A trained run on a text: perplexity, top-k and unknown words, alone or mixed with what counting knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from throughtime.errors import InputError, RecipeError
from throughtime.model import NEXT, Head, WordPredictor
from throughtime.recipe import Recipe
from throughtime.storage import RunFolder
from throughtime.text import Corpus, EncodedText, encode_text, open_corpus
from throughtime.training import DynamicRule, Evaluation, ScoredPart, dynamic_rule, score_dynamically
from throughtime.training import evaluate as evaluate_model
from throughtime.workflow.mixture import CACHE, CONTINUOUS, DYNAMIC, NGRAM, Mixture, fit
from throughtime.workflow.predictor import Predictor, load

__all__ = ["TextEvaluation", "evaluate"]

WORDS_TO_FIT_DYNAMIC = 20_000
"""Words of the validation text on which a mixture with a dynamic network is fitted."""


@dataclass(frozen=True)
class TextEvaluation:
    """How well a run predicts a text.

    Attributes:
        heads: the network alone, for each head it has.
        unknown_rate: share of words outside the vocabulary, scored as `<unk>`.
        num_words: words of the text, sentence ends not counted.
        num_replacements: bytes of the text that could not be decoded, where `errors="replace"` let them pass.
        mixture: with the n-gram model or a cache, if they were asked for.
        dynamic: the network that goes on learning from the words it has predicted, if that was asked for.
    """

    heads: dict[Head, Evaluation]
    unknown_rate: float
    num_words: int
    num_replacements: int
    mixture: Mixture | None = None
    dynamic: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "heads": {head: evaluation.to_json() for head, evaluation in self.heads.items()},
            "unknown_rate": self.unknown_rate,
            "num_words": self.num_words,
            "num_replacements": self.num_replacements,
            "mixture": None if self.mixture is None else self.mixture.to_json(),
            "dynamic": None if self.dynamic is None else self.dynamic.to_json(),
        }


def evaluate(
    run: str | Path,
    *texts: str | Path,
    ngram: bool = False,
    cache: bool = False,
    continuous_cache: bool = False,
    dynamic: bool = False,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
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
        dynamic: also let a copy of the network go on learning from the words that it has predicted, window by window
            (dynamic evaluation, Krause et al. 2018); its rate is chosen on the validation text. With other parts, it is
            one of them. This takes about as long as training on so many words one after another.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.
        progress: is told of a dynamic evaluation how many words are scored, and of how many.
        choices: how the text is read (`encoding`, `errors`, `max_bytes`), where it differs from the run's.

    Returns:
        For each question (next word, blank) the perplexity, its natural log in nats a word, and the shares, from 0 to
        1, of words that were thought likeliest or among the five likeliest; and the share of unknown words.

    Raises:
        InputError: if the text cannot be read, or a mixture or dynamic evaluation is asked of a cloze model.
        RecipeError: if it is said how a text is read, but none is given.
        RunError: if the run cannot be used.
    """
    predictor = load(run, device=device, threads=threads)
    folder = RunFolder.open(Path(run))
    corpus = open_corpus(folder.corpus_path)
    wanted = {NGRAM: ngram, CACHE: cache, CONTINUOUS: continuous_cache}
    parts = [name for name, is_wanted in wanted.items() if is_wanted]
    if (parts or dynamic) and NEXT not in predictor.model.heads:
        raise InputError(
            "n-gram, caches and dynamic evaluation predict the next word, which a cloze model has not: leave them out"
        )
    text = _read(folder, corpus, texts, choices)
    model = predictor.model
    heads = evaluate_model(model, text.ids, padding=corpus.vocabulary.end_ids[0])
    followed = _followed(model, corpus, text.ids, progress) if dynamic else None
    mixture = _mixture(predictor, corpus, text.ids, parts, followed) if parts else None
    return TextEvaluation(
        heads,
        text.unknown_rate,
        text.num_words,
        text.num_replacements,
        mixture,
        None if followed is None else Evaluation.of(followed.scores, NEXT, context_carried=heads[NEXT].context_carried),
    )


def _read(folder: RunFolder, corpus: Corpus, texts: tuple[str | Path, ...], choices: dict[str, object]) -> EncodedText:
    """The texts, or the test part of the run's own where there are none."""
    if texts:
        paths = tuple(str(text) for text in texts)
        return encode_text(Recipe.read(folder.recipe_path).chosen(**choices, paths=paths).text, corpus.vocabulary)
    if choices:
        raise RecipeError(
            f"{', '.join(choices)} say how a text is read, and there is none: name one, or leave them out"
        )
    num_words = len(corpus.test) - int(np.isin(corpus.test, corpus.vocabulary.end_ids).sum())
    return EncodedText(corpus.test, corpus.unknown_rate["test"], num_words, 0)


class _Followed(NamedTuple):
    """A text, scored by a network that learned from it, and how that learned."""

    rule: DynamicRule
    scores: ScoredPart


def _followed(
    model: WordPredictor, corpus: Corpus, ids: np.ndarray, progress: Callable[[int, int], None] | None
) -> _Followed:
    if progress is not None:
        progress(0, len(ids))
    padding = corpus.vocabulary.end_ids[0]
    rule = dynamic_rule(model, corpus.train, corpus.valid, padding=padding)
    scores = score_dynamically(model, ids, rule, padding=padding, progress=progress)
    if not np.isfinite(scores.log_probability[NEXT]).all():
        raise InputError("dynamic evaluation ended in numbers that are not finite: leave it out for this run and text")
    return _Followed(rule, scores)


def _mixture(
    predictor: Predictor, corpus: Corpus, ids: np.ndarray, names: list[str], followed: _Followed | None
) -> Mixture:
    """Of the network and the named parts, and of the network that followed the text, if one did."""
    if followed is None:
        return fit(predictor, corpus.valid, names).on(ids)
    held_out, padding = corpus.valid[:WORDS_TO_FIT_DYNAMIC], corpus.vocabulary.end_ids[0]
    learned = score_dynamically(predictor.model, held_out, followed.rule, padding=padding)
    fitted = fit(predictor, held_out, names, {DYNAMIC: np.exp(learned.log_probability[NEXT])})
    return fitted.on(ids, {DYNAMIC: np.exp(followed.scores.log_probability[NEXT])})
