"""Interpolated modified Kneser-Ney: the n-gram model that every network has to beat.

*References*: R. Kneser and H. Ney, Improved backing-off for m-gram language modeling, ICASSP 1995,
doi:10.1109/ICASSP.1995.479394. S. F. Chen and J. Goodman, An empirical study of smoothing techniques for language
modeling, Harvard TR-10-98, 1998 (modified Kneser-Ney: section 4.1.6), and doi:10.1006/csla.1999.0128.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from throughtime.check import at_least
from throughtime.errors import InputError, RunError
from throughtime.ngram.counts import (
    ABSENT,
    EMPTY_CONTEXT,
    NgramCounts,
    checked_ids,
    contexts_along,
    count_ngrams,
    end_mask,
    sentence_begins,
)
from throughtime.ngram.level import Level
from throughtime.storage import write_bytes

__all__ = ["MINIMUM_CANDIDATES", "KneserNey"]

MINIMUM_CANDIDATES = 200
"""The fewest candidates that a limited `KneserNey.fill` rescores."""

_FORMAT = "throughtime.kneser-ney.1"

_Nodes = list[npt.NDArray[np.int64]]
"""Nodes of n-grams of growing length, one array each."""


class KneserNey:
    """A word's probability given the words before it in its sentence, from counts.

    With a(h w) the adjusted count of the n-gram h w (see `NgramCounts`), h' the context h without its first word, and
    D(a) the discount of its order for counts of 1, 2, and 3 or more:

        P(w | h)  =  (a(h w) - D(a(h w))) / sum_v a(h v)  +  gamma(h) P(w | h')
        gamma(h)  =  sum_v D(a(h v)) / sum_v a(h v)

    A context that was never seen passes P(w | h') on; below the unigrams stands the uniform 1 / V, so every word has a
    probability above zero. Nothing is pruned. The unknown word is a word like any other.

    Where the paper leaves a choice, this follows SRILM and KenLM: n-grams that begin a sentence keep their raw counts
    in the lower orders, nothing stands before the one begin symbol, and the end of a sentence is predicted. `fit` says
    what happens when a text is too small for the discounts.

    Attributes:
        num_words: V, the size of the vocabulary.
        order: the length of the longest n-grams.
        end_ids: the words that close a sentence.
    """

    def __init__(self, counts: Sequence[NgramCounts], *, end_ids: Collection[int]) -> None:
        self.num_words = len(counts[0].keys)
        self.order = len(counts)
        self.end_ids = tuple(sorted({int(end) for end in end_ids}))
        self._is_end = end_mask(self.end_ids, self.num_words)
        num_contexts = [1, self.num_words + 1, *(len(level.keys) for level in counts[1:])]
        self._levels = [Level(level, num, self.num_words) for level, num in zip(counts, num_contexts, strict=False)]
        # A context is the list of its nodes of length 0, 1, ..., order-1: one for each order of n-gram.
        absent = [ABSENT] * self.order
        self._unknown = [np.array(node) for node in [EMPTY_CONTEXT, *absent][: self.order]]
        self._begin = [np.array(node) for node in [EMPTY_CONTEXT, self.num_words, *absent][: self.order]]
        uniform = np.full(self.num_words, 1 / self.num_words)
        self._unigrams = self._levels[0].interpolate_all(EMPTY_CONTEXT, uniform)

    @classmethod
    def fit(cls, ids: npt.ArrayLike, *, num_words: int, end_ids: Collection[int], order: int = 5) -> KneserNey:
        """The model of a text.

        The discounts of each order come from its counts of counts. In a text so small that there are none with a count
        of one, of two or of three, or that they give a discount below zero, that order has `FALLBACK_DISCOUNTS`.

        Args:
            ids: (N,) word ids of at least one word, a memory-mapped array for one; sentences, each closed by an end id.
            num_words: V, the size of the vocabulary; ids are below it, and a word may be in no sentence.
            end_ids: the words that close a sentence.
            order: the length of the longest n-grams: one more than the words that are looked back on.

        Raises:
            RecipeError: if `order` or `num_words` is below 1.
            InputError: if the text is empty, or an id is not one of the vocabulary.

        Example:
            >>> model = KneserNey.fit([0, 1, 2, 0, 2], num_words=3, end_ids=[2], order=2)
            >>> model.distribution([0]).round(3)  # after a: b and </s> were seen once each
            array([0.146, 0.396, 0.458])
        """
        at_least("the order of an n-gram model", order, 1)
        at_least("the number of words", num_words, 1)
        if not np.size(ids):
            raise InputError("an n-gram model needs at least one word to count, and the text is empty: give more text")
        return cls(count_ngrams(ids, num_words=num_words, end_ids=end_ids, order=order), end_ids=end_ids)

    @property
    def num_ngrams(self) -> tuple[int, ...]:
        """How many n-grams were seen, of order 1, 2, ..., `order`."""
        return tuple(int(np.count_nonzero(level.counts.counts)) for level in self._levels)

    def log_probabilities(self, ids: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) log P in nats of each word of a text given those before it in its sentence; the text begins a sentence.

        Raises:
            InputError: if an id is not one of the vocabulary.

        Example:
            >>> model = KneserNey.fit([0, 1, 2, 0, 2], num_words=3, end_ids=[2], order=2)
            >>> model.log_probabilities([0, 1, 2]).round(3)
            array([-0.437, -0.927, -0.345])
        """
        words = checked_ids("a text", ids, self.num_words)
        begins = sentence_begins(words, self._is_end)
        nodes, probabilities = words, self._unigrams[words]
        for level, begin in zip(self._levels[1:], self._begin[1:], strict=True):
            contexts = contexts_along(nodes, begins, int(begin))
            nodes = level.find(contexts, words)
            probabilities = level.interpolate(nodes, contexts, probabilities)
        return np.log(probabilities)

    def distribution(
        self, context: Sequence[int] | npt.NDArray[Any], *, sentence_start: bool = False
    ) -> npt.NDArray[np.float64]:
        """(V,) the probability of each word to come after `context`; they sum to one.

        Args:
            context: the words before; the last `order` - 1 of them matter, and none before an end of a sentence.
            sentence_start: whether a sentence begins with the context; else what stood before it is not known. An end
                id in the context says the same of the words after it.

        Raises:
            InputError: if an id is not one of the vocabulary.
        """
        return self._distribution(self._context(context, sentence_start))

    def fill(
        self,
        left: Sequence[int] | npt.NDArray[Any],
        right: Sequence[int] | npt.NDArray[Any],
        *,
        candidates: int | None = None,
        sentence_start: bool = False,
    ) -> npt.NDArray[np.float64]:
        """(V,) log P in nats of each word together with the words to its right, given those to its left.

            log P(w | left)  +  sum over i < order - 1 of log P(right_i | left w right_0 ... right_{i-1})

        No later word depends on w, so this orders the words as the whole sentence does: a softmax of it is the
        probability of each word between `left` and `right`.

        Args:
            left: the words before the blank, as in `distribution`.
            right: the words after it, with the end id if the sentence ends there.
            candidates: how many words to rescore, those with the highest P(w | left); the others have -inf. None
                rescores all of them.
            sentence_start: whether a sentence begins with `left`.

        Raises:
            InputError: if an id is not one of the vocabulary.
            RecipeError: if `candidates` is below `MINIMUM_CANDIDATES`.
        """
        context = self._context(left, sentence_start)
        probabilities = self._distribution(context)
        words = np.arange(self.num_words)
        if candidates is not None:
            at_least("the number of candidates for a blank", candidates, MINIMUM_CANDIDATES)
            if candidates < self.num_words:
                words = np.sort(np.argpartition(-probabilities, candidates)[:candidates])
        total = np.log(probabilities[words])
        contexts = self._contexts_after(self._nodes(context, words))
        for word in checked_ids("the right side of a blank", right, self.num_words)[: self.order - 1]:
            nodes = self._nodes(contexts, word)
            total += np.log(self._probabilities(nodes, contexts))
            contexts = self._contexts_after(nodes)
        scores = np.full(self.num_words, -np.inf)
        scores[words] = total
        return scores

    def save(self, path: str | Path) -> None:
        """Write the counts to one safetensors file, all of it or none.

        Raises:
            RunError: if the file cannot be written; one that was there before is untouched.
        """
        tensors: dict[str, npt.NDArray[Any]] = {}
        for length, level in enumerate(self._levels, start=1):
            counts = level.counts
            tensors |= {f"keys.{length}": counts.keys, f"counts.{length}": counts.counts}
        metadata = {"format": _FORMAT, "order": str(self.order), "end_ids": json.dumps(self.end_ids)}
        write_bytes(Path(path), save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> KneserNey:
        """Read what `save` wrote; the model gives the same numbers, bit for bit.

        Raises:
            RunError: if the file is absent, cut short, or holds something else. (Damage within the numbers is for the
                manifest of the run folder to find.)
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise RunError(f"{path} holds no n-gram model ({_FORMAT}): name a file that KneserNey.save wrote")
                lengths = range(1, int(metadata["order"]) + 1)
                counts = [NgramCounts(file.get_tensor(f"keys.{n}"), file.get_tensor(f"counts.{n}")) for n in lengths]
                end_ids = json.loads(metadata["end_ids"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"cannot read the n-gram model {path}: {error}") from error
        return cls(counts, end_ids=end_ids)

    def _context(self, words: Sequence[int] | npt.NDArray[Any], sentence_start: bool) -> _Nodes:
        """The context that `words` are."""
        context = self._begin if sentence_start else self._unknown
        row = checked_ids("the context", words, self.num_words)
        for word in row[max(0, len(row) - self.order + 1) :]:
            context = self._contexts_after(self._nodes(context, word))
        return context

    def _nodes(self, contexts: _Nodes, words: npt.NDArray[np.int64]) -> _Nodes:
        """The n-grams of order 1, 2, ..., `order` that end in `words`; contexts and words broadcast."""
        longer = zip(self._levels[1:], contexts[1:], strict=True)
        return [words, *(level.find(context, words) for level, context in longer)]

    def _contexts_after(self, nodes: _Nodes) -> _Nodes:
        """The contexts that the n-grams `nodes` are to the next word: a sentence begins after an end."""
        ended = self._is_end[nodes[0]]
        return [
            np.where(ended, begin, node)
            for begin, node in zip(self._begin, [np.array(EMPTY_CONTEXT), *nodes[:-1]], strict=True)
        ]

    def _probabilities(self, nodes: _Nodes, contexts: _Nodes) -> npt.NDArray[np.float64]:
        """P of the last words of the n-grams `nodes` after `contexts`."""
        probabilities = self._unigrams[nodes[0]]
        for level, node, context in zip(self._levels[1:], nodes[1:], contexts[1:], strict=True):
            probabilities = level.interpolate(node, context, probabilities)
        return probabilities

    def _distribution(self, context: _Nodes) -> npt.NDArray[np.float64]:
        """(V,) P of every word after one context."""
        probabilities = self._unigrams.copy()
        for level, node in zip(self._levels[1:], context[1:], strict=True):
            if node == ABSENT:
                break  # what is longer was not seen either
            probabilities = level.interpolate_all(int(node), probabilities)
        return probabilities
