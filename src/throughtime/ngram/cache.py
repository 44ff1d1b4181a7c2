"""A unigram cache: words that were used lately are used again.

*References*: R. Kuhn and R. De Mori, A cache-based natural language model for speech recognition, IEEE Transactions on
Pattern Analysis and Machine Intelligence 12(6), 1990, doi:10.1109/34.56193; with the exponential decay of P. Clarkson
and A. Robinson, Language model adaptation using mixtures and an exponentially decaying cache, ICASSP 1997,
doi:10.1109/ICASSP.1997.596049. A departure from the first: one cache for all words, not one a part of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from throughtime.check import at_least
from throughtime.ngram.counts import checked_ids

__all__ = ["UnigramCache"]


@dataclass(frozen=True)
class UnigramCache:
    """A word's share of the words so far, across the ends of sentences, each counting for less the older it is.

        P(w | w_1 ... w_n)  =  sum over i with w_i = w of d^(n-i)  /  sum over i of d^(n-i),    d = 2^(-1 / half-life)

    Before the first word it is the uniform 1 / V. It gives zero to every word that is not in the history, so it is for
    a mixture with a model that gives zero to none (see `mix`).

    Attributes:
        num_words: V, the size of the vocabulary.
        half_life_words: after how many words a word counts for half; 100 to 500 is the usual range for novels.

    Raises:
        RecipeError: if one of them is below 1.

    Example:
        >>> cache = UnigramCache(num_words=3, half_life_words=1)
        >>> cache.target_probabilities([0, 0, 1, 0]).round(3)
        array([0.333, 1.   , 0.   , 0.429])
        >>> cache.distribution([0, 0, 1]).round(3)  # the last word counts 1, those before it 1/2 and 1/4
        array([0.429, 0.571, 0.   ])
    """

    num_words: int
    half_life_words: float = 200

    def __post_init__(self) -> None:
        at_least("the number of words", self.num_words, 1)
        at_least("the half-life of a cache in words", self.half_life_words, 1)

    def target_probabilities(self, ids: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) the probability of each word of a text given those before it; takes time in proportion to N.

        Raises:
            InputError: if an id is not one of the vocabulary.
        """
        words = checked_ids("a text", ids, self.num_words)
        probabilities = np.empty(len(words))
        decay = self._decay
        weights = [0.0] * self.num_words  # of each word, at the position where it was last seen
        last_seen = [0] * self.num_words
        total = 0.0
        for position, word in enumerate(words.tolist()):
            total *= decay
            weight = weights[word] * decay ** (position - last_seen[word])
            probabilities[position] = weight / total if position else 1 / self.num_words
            weights[word] = weight + 1
            last_seen[word] = position
            total += 1
        return probabilities

    def distribution(self, history: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """(V,) the probability of each word to come after `history`.

        Raises:
            InputError: if an id is not one of the vocabulary.
        """
        words = checked_ids("the history", history, self.num_words)
        if not len(words):
            return np.full(self.num_words, 1 / self.num_words)
        weights = self._decay ** np.arange(len(words) - 1, -1, -1)
        shares: npt.NDArray[np.float64] = np.bincount(words, weights, self.num_words) / weights.sum()
        return shares

    @property
    def _decay(self) -> float:
        return float(0.5 ** (1 / self.half_life_words))
