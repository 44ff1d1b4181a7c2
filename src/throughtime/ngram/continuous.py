"""A continuous cache: words that were used lately in a context like this one are used again.

*Reference*: E. Grave, A. Joulin and N. Usunier, Improving neural language models with a continuous cache, ICLR 2017,
arXiv:1612.04426, equations 1 and 2. The vectors that are compared are those that the softmax sees, of size E.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from throughtime.check import at_least
from throughtime.errors import InputError, RecipeError
from throughtime.ngram.counts import checked_ids

__all__ = ["ContinuousCache"]

BLOCK = 512
"""Words whose likeness to those before them is computed at a time: BLOCK x (BLOCK + size) numbers."""
Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ContinuousCache:
    """A word's share of the last words, each counting for more the more its context was like this one.

        P(w | w_1 ... w_n)  =  sum over i with w_i = w of exp(theta h_i . h)  /  sum over i of exp(theta h_i . h)

    where h_i is the vector from which the network predicted w_i, h the one from which it predicts the next word, and i
    runs over the last `size` words. Before the first word it is the uniform 1 / V. Like `UnigramCache` it is for a
    mixture with a model that gives zero to none.

    Attributes:
        num_words: V, the size of the vocabulary.
        theta: how much likeness counts; with 0 it is the plain share. It is per product of two vectors, so its scale
            is that of 1 / |h|^2.
        size: how many words are remembered.

    Raises:
        RecipeError: if a number of words is below 1, or theta is negative or not finite.

    Example:
        >>> contexts = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> ContinuousCache(num_words=3, theta=5.0).target_probabilities(contexts, [2, 1, 2]).round(3)
        array([0.333, 0.   , 0.993])
    """

    num_words: int
    theta: float
    size: int = 2000

    def __post_init__(self) -> None:
        at_least("the number of words", self.num_words, 1)
        at_least("the words that a cache remembers", self.size, 1)
        if not 0 <= self.theta < np.inf:
            raise RecipeError(f"theta of a continuous cache must be 0 or more, not {self.theta:g}")

    def target_probabilities(self, contexts: Vectors, ids: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) the probability of each word of a text given those before it.

        Args:
            contexts: (N, E), from which the network predicted each word.
            ids: (N,) the words.

        Raises:
            InputError: if an id is not one of the vocabulary, or there is not one vector a word.
        """
        words = self._checked(contexts, ids)
        probabilities = np.empty(len(words))
        for begin, end, oldest in self._blocks(len(words)):
            likeness = self.theta * (contexts[begin:end] @ contexts[oldest:end].T).astype(np.float64)
            age = np.arange(begin, end)[:, None] - np.arange(oldest, end)
            likeness[(age < 1) | (age > self.size)] = -np.inf
            likeness[0, 0] = likeness[0, 0] if begin else 0.0  # nothing is before the first word: mended below
            weights = np.exp(likeness - likeness.max(axis=1, keepdims=True))
            same = words[begin:end, None] == words[oldest:end]
            probabilities[begin:end] = (weights * same).sum(axis=1) / weights.sum(axis=1)
        probabilities[:1] = 1 / self.num_words
        return probabilities

    def distribution(self, contexts: Vectors, ids: npt.ArrayLike, context: Vectors) -> npt.NDArray[np.float64]:
        """(V,) the probability of each word to come after a text.

        Args:
            contexts: (N, E), from which the network predicted each word of the text.
            ids: (N,) the words.
            context: (E,), from which it predicts the next one.

        Raises:
            InputError: as `target_probabilities`.
        """
        words = self._checked(contexts, ids)[-self.size :]
        if not len(words):
            return np.full(self.num_words, 1 / self.num_words)
        likeness = self.theta * (contexts[-self.size :] @ context).astype(np.float64)
        weights = np.exp(likeness - likeness.max())
        shares: npt.NDArray[np.float64] = np.bincount(words, weights, self.num_words) / weights.sum()
        return shares

    def _blocks(self, count: int) -> Iterator[tuple[int, int, int]]:
        """The first word of a block, one past its last, and the oldest that any of them remembers."""
        for begin in range(0, count, BLOCK):
            yield begin, min(begin + BLOCK, count), max(0, begin - self.size)

    def _checked(self, contexts: Vectors, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        words = checked_ids("a text", ids, self.num_words)
        if len(contexts) != len(words):
            raise InputError(f"a continuous cache needs one vector a word: {len(contexts)} came with {len(words)}")
        return words
