"""A trained network as something to ask: the next word, the words in the blanks, the probability of a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from throughtime.check import at_least
from throughtime.errors import InputError, RunError
from throughtime.model import BLANK as BLANK_HEAD
from throughtime.model import NEXT, State, WordPredictor
from throughtime.ngram import ContinuousCache, KneserNey, UnigramCache
from throughtime.recipe import Compute, Recipe, build
from throughtime.storage import RunFolder, verify
from throughtime.text import BLANK, Vocabulary, detokenise, open_corpus, sentences
from throughtime.training import load_weights, settle
from throughtime.workflow.counting import ngram_of

__all__ = ["CONFIG_FILE", "CONTEXT_WORDS", "VOCABULARY_FILE", "WEIGHTS_FILE", "Predictor", "SentenceScore", "load"]

CANDIDATES = 200
"""Words that a left-to-right model tries in a blank: those it finds likeliest from the left."""
BEAM = 10
"""Ways of filling the blanks to the left that are kept when a sentence has several."""
CONTEXT_WORDS = 400
"""Words ahead of a blank or of the next word that are read at most."""
CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE = "recipe.toml", "vocabulary.json", "model.safetensors"
"""What an exported folder holds, beside its card and its manifest."""
SHARPNESS = 4.0
"""Of a continuous cache: theta times the mean of |h|^2, by how many nats a context makes itself likelier."""
STAND_IN = "\ue000"
"""Stands for a blank while a text is cut into sentences: a private character, which is a token by itself."""
Guesses = list[tuple[str, float]]
_UNDERSCORES = re.compile(f"{BLANK}_*")


@dataclass(frozen=True)
class SentenceScore:
    """The log probability of a sentence, word by word.

    Attributes:
        words: (word, natural log of its probability), the sentence end not among them.
        unknown: words that the vocabulary does not hold; each was scored as `<unk>`.
        two_sided: whether each word was scored with the words behind it in sight too, as a cloze model does; then the
            sum is a pseudo log likelihood, and no probability of the sentence.
    """

    words: tuple[tuple[str, float], ...]
    unknown: tuple[str, ...]
    two_sided: bool

    @property
    def log_probability(self) -> float:
        """The sum over the words, in nats."""
        return float(sum(value for _, value in self.words))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "log_probability_nats": self.log_probability,
            "two_sided": self.two_sided,
            "words": [{"word": word, "log_probability_nats": value} for word, value in self.words],
            "unknown_words": list(self.unknown),
        }


class _Tried(NamedTuple):
    """What a left-to-right model tries in a blank: the state before it, and words with their log probabilities."""

    state: State
    scores: Tensor
    words: Tensor


class Predictor:
    """Answers from a model and its vocabulary. Use `throughtime.load` for one from a run.

    Args:
        model: the trained network.
        vocabulary: its words.
        lower: whether letter case was folded in training.
        tokenised: whether sentences are taken as words separated by spaces.
        run: where it came from, for what is made when first asked for.
    """

    def __init__(
        self,
        model: WordPredictor,
        vocabulary: Vocabulary,
        *,
        lower: bool = False,
        tokenised: bool = False,
        run: RunFolder | None = None,
    ) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.lower = lower
        self.tokenised = tokenised
        self.run = run
        self._device = model.embedding.weight.device
        self._end = vocabulary.end_ids[0]

    def next(
        self, text: str, top: int = 5, *, ngram: float = 0.0, cache: float = 0.0, continuous_cache: float = 0.0
    ) -> Guesses:
        """The likeliest next words.

        Args:
            text: the words so far; nothing means the beginning of a sentence.
            top: how many.
            ngram: weight of the 5-gram model of the training text in the mixture, from 0 to 1.
            cache: weight of the unigram cache of the words in `text`, from 0 to 1.
            continuous_cache: weight of the cache in which a word of `text` counts for more the more its context was
                like the end of `text`, from 0 to 1.

        Returns:
            (word, probability), likeliest first; sentence ends are words, `<unk>` is not offered.

        Raises:
            InputError: if the model fills blanks only, or the text has a blank, or the weights exceed 1.
        """
        at_least("top", top, 1)
        if NEXT not in self.model.heads:
            raise InputError(
                "a cloze model has no next word: put a blank ___ in the sentence, or train --model recurrent"
            )
        counted = ngram + cache + continuous_cache
        if min(ngram, cache, continuous_cache) < 0 or not counted <= 1:
            raise InputError(
                "the weights of n-gram and caches must be in [0, 1], their sum too; "
                f"got {', '.join(f'{weight:g}' for weight in (ngram, cache, continuous_cache))}"
            )
        tokens = self.tokens(text)
        if BLANK in tokens:
            raise InputError("the sentence has a blank ___: use fill, or take the blank out to ask for the next word")
        ids = self.vocabulary.encode(tokens)
        with torch.no_grad():
            contexts, _ = self._contexts(ids[-CONTEXT_WORDS:])
            network = self.model.output.log_probabilities(contexts[-1:])[0].exp()
        probability = network.double().cpu().numpy() * (1.0 - counted)
        if ngram:
            probability += ngram * self.ngram.distribution([self._end, *ids.tolist()])
        if cache:
            probability += cache * UnigramCache(len(self.vocabulary)).distribution(ids)
        if continuous_cache:
            probability += continuous_cache * self._like_before(ids, contexts)
        return self._guesses(torch.from_numpy(probability), top)

    def fill(self, text: str, top: int = 5) -> Guesses:
        """The likeliest words for the blanks of a sentence.

        A cloze model, and the two-sided part of a window model, answer at once. A left-to-right model tries the 200
        words that it finds likeliest from the left, and scores each through the end of the sentence.

        Args:
            text: a sentence with `___` for each blank.
            top: how many.

        Returns:
            (word, probability), likeliest first. With several blanks, the words in order, separated by spaces.

        Raises:
            InputError: if there is no blank.
        """
        at_least("top", top, 1)
        tokens = self.tokens(text)
        blanks = [index for index, token in enumerate(tokens) if token == BLANK]
        if not blanks:
            raise InputError("the sentence has no blank: write ___ (three underscores) where a word is missing")
        ids = self.vocabulary.encode(tokens)
        beam: list[tuple[tuple[str, ...], float, np.ndarray]] = [((), 1.0, ids)]
        for number, blank in enumerate(blanks, start=1):
            breadth = top if number == len(blanks) else max(top, BEAM)
            grown = []
            for words, probability, filled in beam:
                for word, share in self.fill_one(filled, blank, breadth):
                    copy = filled.copy()
                    copy[blank] = self.vocabulary.encode([word])[0]
                    grown.append(((*words, word), probability * share, copy))
            beam = sorted(grown, key=lambda entry: -entry[1])[:breadth]
        return [(" ".join(words), probability) for words, probability, _ in beam[:top]]

    def score(self, text: str) -> SentenceScore:
        """The log probability of a sentence, word by word, each given the words before it.

        Raises:
            InputError: if the sentence is empty or has a blank.
        """
        tokens = self.tokens(text)
        if not tokens:
            raise InputError("there is no word to score: give a sentence")
        if BLANK in tokens:
            raise InputError("a sentence with a blank ___ has no probability: use fill, or put a word there")
        head = self.model.heads[0]
        ids = self.vocabulary.encode(tokens)
        with torch.no_grad():
            rows = self._rows(ids)
            first, last = self.model.before, self.model.before + len(ids)
            features, _ = self.model.features(rows, first, last, self.model.initial_state(1))
            found = self.model.output.score(features[head][:, 0], rows[first:last, 0]).log_probability
        return SentenceScore(
            tuple(zip(tokens, found.tolist(), strict=True)), self.unknown_words(text), two_sided=head == BLANK_HEAD
        )

    def tokens(self, text: str) -> list[str]:
        """The words and punctuation of a text, `___` for a blank; all sentence ends but the last are words too.

        More than three underscores in a row are one blank.
        """
        if self.tokenised:
            tokens = _UNDERSCORES.sub(BLANK, text).split()
        else:
            marked = sentences(_UNDERSCORES.sub(f" {STAND_IN} ", text))
            tokens = [BLANK if token == STAND_IN else token for sentence in marked for token in sentence][:-1]
        return [token.lower() if self.lower and token != BLANK else token for token in tokens]

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a sentence that the vocabulary does not hold."""
        return tuple(token for token in self.tokens(text) if token != BLANK and token not in self.vocabulary)

    def filled(self, text: str, words: Sequence[str]) -> str:
        """The sentence with its blanks filled, readable."""
        remaining = iter(words)
        return detokenise([next(remaining) if token == BLANK else token for token in self.tokens(text)])

    @cached_property
    def ngram(self) -> KneserNey:
        """The 5-gram model of the run's training text, counted when first asked for and kept in the run.

        Raises:
            RunError: if the predictor came from no run.
        """
        if self.run is None:
            raise RunError("the n-gram model is counted from the training text of a run: load the predictor from one")
        return ngram_of(self.run)

    def blank_log_probabilities(self, ids: np.ndarray, blank: int, *, candidates: int = CANDIDATES) -> Tensor:
        """(V,) the normalised log probability of every word at position `blank`; -inf for words not tried.

        Args:
            ids: (N,) the words; the one at `blank` is never looked at.
            blank: the position to fill.
            candidates: words that a left-to-right model tries.
        """
        with torch.no_grad():
            return self.distribution(ids, blank, candidates=candidates)

    def distribution(self, ids: np.ndarray, blank: int | None, *, candidates: int = CANDIDATES) -> Tensor:
        """As `blank_log_probabilities`, or of the next word where `blank` is None; with its graph, for gradients."""
        if blank is None:
            return self._read(ids[-CONTEXT_WORDS:])[1]
        if BLANK_HEAD in self.model.heads:
            begin = max(0, blank - CONTEXT_WORDS)
            rows = self._rows(ids[begin:])
            first = self.model.before
            target = first + blank - begin
            features, _ = self.model.features(rows, first, target + 1, self.model.initial_state(1))
            return self.model.output.log_probabilities(features[BLANK_HEAD][-1])[0]
        return self._rescore(ids, blank, self._tried(ids, blank, candidates))

    def blank_rank(self, ids: np.ndarray, blank: int) -> int:
        """How many words are thought likelier than the one that stands at `blank`.

        A word that a left-to-right model does not try comes behind all that it tries, which is known from the left.
        """
        word = int(ids[blank])
        with torch.no_grad():
            if BLANK_HEAD in self.model.heads:
                scores = self.distribution(ids, blank)
            else:
                tried = self._tried(ids, blank, CANDIDATES)
                if word not in tried.words.tolist():
                    return len(tried.words)
                scores = self._rescore(ids, blank, tried)
        return int((scores > scores[word]).sum())

    def fill_one(self, ids: np.ndarray, blank: int, top: int) -> Guesses:
        """The likeliest words at position `blank` of some ids; the end of a sentence fills no blank."""
        probability = self.blank_log_probabilities(ids, blank).double().exp().cpu()
        probability[list(self.vocabulary.end_ids)] = 0.0
        return self._guesses(probability, top)

    def _tried(self, ids: np.ndarray, blank: int, candidates: int) -> _Tried:
        state, distribution = self._read(ids[max(0, blank - CONTEXT_WORDS) : blank])
        return _Tried(state, *distribution.topk(min(candidates, len(distribution))))

    def _rescore(self, ids: np.ndarray, blank: int, tried: _Tried) -> Tensor:
        """Every candidate through the end of the sentence, from the state that the words to the left leave behind."""
        before = self.model.before
        left, right = ids[max(0, blank - CONTEXT_WORDS) : blank], self._rest_of_sentence(ids[blank + 1 :])
        state, scores, words = tried
        count = len(words)
        history = np.concatenate([np.full(before, self._end), left])[-before:]
        rows = torch.from_numpy(np.concatenate([history, [0], right])).to(self._device)[:, None].repeat(1, count)
        rows[before] = words
        features, _ = self.model.features(
            rows, before + 1, len(rows), tuple(part.repeat_interleave(count, dim=1) for part in state)
        )
        following = self.model.output.target_log_probabilities(
            features[NEXT].flatten(0, 1), rows[before + 1 :].flatten()
        )
        scores = scores + following.view(-1, count).sum(0)
        filled = scores.new_full((len(self.vocabulary),), -torch.inf)
        return filled.index_copy(0, words, scores.log_softmax(0))

    def _rest_of_sentence(self, ids: np.ndarray) -> np.ndarray:
        """The words up to the end of the sentence, that end included, be it written or not."""
        ends = np.flatnonzero(np.isin(ids, self.vocabulary.end_ids))
        return ids[: ends[0] + 1] if len(ends) else np.append(ids, self._end)

    def _read(self, left: np.ndarray) -> tuple[State, Tensor]:
        """The state after all of `left`, and the (V,) log probabilities of the word that follows."""
        features, state = self._contexts(left)
        return state, self.model.output.log_probabilities(features[-1:])[0]

    def _contexts(self, left: np.ndarray) -> tuple[Tensor, State]:
        """(N + 1, E): from what each of N words, and the word that follows, is predicted; and the state after all."""
        rows = self._rows(np.append(left, self._end))
        before = self.model.before
        features, state = self.model.features(rows, before, before + len(left) + 1, self.model.initial_state(1))
        return features[NEXT][:, 0], state

    def _like_before(self, ids: np.ndarray, contexts: Tensor) -> np.ndarray:
        """(V,) the probability that a continuous cache of some words gives each word to come next."""
        vectors = contexts.double().cpu().numpy()
        theta = SHARPNESS / float(np.square(vectors).sum(axis=1).mean())
        cache = ContinuousCache(len(self.vocabulary), theta)
        return cache.distribution(vectors[:-1], ids[-CONTEXT_WORDS:], vectors[-1])

    def _rows(self, ids: np.ndarray) -> Tensor:
        """(before + N + after, 1) ids with sentence ends around them."""
        before, after = np.full(self.model.before, self._end), np.full(max(self.model.after, 1), self._end)
        return torch.from_numpy(np.concatenate([before, ids, after]).astype(np.int64)).to(self._device)[:, None]

    def _guesses(self, probability: Tensor, top: int) -> Guesses:
        offered = probability.clone()
        offered[self.vocabulary.unknown_id] = 0.0
        values, words = offered.topk(min(top, len(offered) - 1))
        found = self.vocabulary.decode(words.tolist())
        return [(word, value) for word, value in zip(found, values.tolist(), strict=True) if value > 0]


def load(run: str | Path, *, device: str = "auto", threads: int = 0) -> Predictor:
    """The predictor of a run, with its best verified checkpoint, or of a folder that `throughtime export` wrote.

    Args:
        run: the folder.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.

    Returns:
        What guesses next words, fills blanks and scores sentences.

    Raises:
        RunError: if there is no such run, it has no checkpoint yet, or it is damaged.

    Example:
        >>> load("runs/none")
        Traceback (most recent call last):
        throughtime.errors.RunError: there is no run at runs/none
    """
    folder = RunFolder.open(Path(run))
    recipe = Recipe.read(folder.recipe_path)
    exported = (folder.path / WEIGHTS_FILE).is_file()
    read = _read_exported if exported else _read_run
    weights, vocabulary = read(folder)
    settled = settle(Compute(device=device, threads=threads, precision="float32"))
    with torch.random.fork_rng(), torch.no_grad():
        model = build(recipe, torch.tensor(vocabulary.counts, dtype=torch.float32), matmul_dtype=torch.float32)
    load_weights(model, weights)
    return Predictor(
        model.to(settled.device),
        vocabulary,
        lower=recipe.text.lower,
        tokenised=recipe.text.tokenised,
        run=None if exported else folder,
    )


def _read_run(folder: RunFolder) -> tuple[dict[str, Tensor], Vocabulary]:
    checkpoint = folder.checkpoints.best()
    if checkpoint is None:
        path = folder.path
        raise RunError(f"the run {path} has no checkpoint yet: let it train, or continue it with --resume --out {path}")
    return checkpoint.tensors["model"], open_corpus(folder.corpus_path).vocabulary


def _read_exported(folder: RunFolder) -> tuple[dict[str, Tensor], Vocabulary]:
    verify(folder.path)
    return load_file(folder.path / WEIGHTS_FILE), Vocabulary.load(folder.path / VOCABULARY_FILE)
