"""One order of a Kneser-Ney model: its n-grams, discounted, and the weight it leaves to the order below.

*Reference*: S. F. Chen and J. Goodman, An empirical study of smoothing techniques for language modeling, Harvard
TR-10-98, 1998, section 4.1.6: the discounts D1, D2, D3+ and the weight gamma.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from throughtime.ngram.counts import ABSENT, NgramCounts

__all__ = ["FALLBACK_DISCOUNTS", "Level", "discounts"]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""D1, D2 and D3+ of an order whose counts of counts give none (those of KenLM's `--discount_fallback`)."""

_HIGHEST_KEY = np.iinfo(np.int64).max


def discounts(counts: npt.NDArray[np.integer[Any]]) -> tuple[float, float, float]:
    """What to take off counts of 1, of 2, and of 3 or more.

    With n_i the number of n-grams that have the adjusted count i, and Y = n_1 / (n_1 + 2 n_2):

        D1 = 1 - 2 Y n_2 / n_1,    D2 = 2 - 3 Y n_3 / n_2,    D3+ = 3 - 4 Y n_4 / n_3

    A departure from the paper, which has large texts in mind: if n_1, n_2 or n_3 is zero, or a discount would be zero
    or below (nothing would be left for unseen words, or a count would grow), they are `FALLBACK_DISCOUNTS`, all three.

    Args:
        counts: (n-grams,) adjusted counts of one order.

    Returns:
        D1, D2 and D3+, all above zero and none larger than the counts it is taken off.

    Example:
        >>> discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4]))  # n = 4, 2, 1, 1 and Y = 1/2
        (0.5, 1.25, 1.0)
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if min(n1, n2, n3) == 0:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) > 0 else FALLBACK_DISCOUNTS


class Level:
    """All n-grams of one order, to be looked up by context and last word.

    Each array ends in one more entry, which is that of the node `ABSENT` (-1): a key that nothing matches, a count of
    zero, a context that was followed by nothing and leaves all to the order below. So no look-up needs a mask.

    Args:
        counts: the n-grams and their adjusted counts.
        num_contexts: how many contexts there are, the nodes of the order below.
        num_words: V, the size of the vocabulary.
    """

    def __init__(self, counts: NgramCounts, num_contexts: int, num_words: int) -> None:
        self._num_words = num_words
        self._keys = np.append(counts.keys, _HIGHEST_KEY)
        self._counts = np.append(counts.counts, counts.counts.dtype.type(0))
        self._discounts = np.array([0.0, *discounts(counts.counts)])
        contexts = counts.keys // num_words
        totals = np.bincount(contexts, counts.counts, minlength=num_contexts + 1)
        passed_on = np.bincount(contexts, self._discounts[np.minimum(counts.counts, 3)], minlength=num_contexts + 1)
        followed = totals > 0
        self._totals = np.where(followed, totals, 1.0)
        self._backoff = np.where(followed, passed_on / self._totals, 1.0)

    @property
    def counts(self) -> NgramCounts:
        """The n-grams and their adjusted counts."""
        return NgramCounts(self._keys[:-1], self._counts[:-1])

    def find(self, contexts: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The node of each context followed by a word, or `ABSENT`; the arguments broadcast."""
        keys = contexts * self._num_words + words  # below zero, thus nowhere, after an absent context
        nodes = np.searchsorted(self._keys, keys)
        return np.where(self._keys[nodes] == keys, nodes, ABSENT)

    def interpolate(
        self, nodes: npt.NDArray[np.int64], contexts: npt.NDArray[np.int64], lower: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """P(w | h) of the n-grams `nodes` with the contexts h, from `lower`, P(w | h'); the arguments broadcast."""
        probabilities: npt.NDArray[np.float64] = (
            self._discounted(nodes) / self._totals[contexts] + self._backoff[contexts] * lower
        )
        return probabilities

    def interpolate_all(self, context: int, lower: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(V,) P(w | h) of every word after the one context h, from (V,) `lower`."""
        first_key = context * self._num_words
        first, last = np.searchsorted(self._keys, (first_key, first_key + self._num_words))
        probabilities: npt.NDArray[np.float64] = self._backoff[context] * lower
        probabilities[self._keys[first:last] - first_key] += (
            self._discounted(slice(first, last)) / self._totals[context]
        )
        return probabilities

    def _discounted(self, nodes: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float64]:
        counts = self._counts[nodes]
        discounted: npt.NDArray[np.float64] = counts - self._discounts[np.minimum(counts, 3)]
        return discounted
