"""The counts that Kneser-Ney smoothing reads: how often an n-gram is seen, and how many words stand before it.

An n-gram is a node of a trie: a *context* (the node of its first n-1 words) and a last word. It is packed into one
integer, `context * V + word`, so that any order fits 64 bits, one sort counts a whole order, the n-grams that share a
context lie side by side, and a look-up is a binary search. A node's number is its place in the sorted keys.

A sentence begins at the start of the text and after an end id. Before its first word stands one begin symbol, which is
a context and never predicted. Nothing stands before the begin symbol: the first word of a sentence ends a bigram at
most, the second a trigram at most, and so on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError

__all__ = [
    "ABSENT",
    "EMPTY_CONTEXT",
    "NgramCounts",
    "checked_ids",
    "contexts_along",
    "count_ngrams",
    "end_mask",
    "sentence_begins",
]

ABSENT = -1
"""The node of an n-gram that is not there."""

EMPTY_CONTEXT = 0
"""The node of the empty context, the one before every unigram."""


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """All n-grams of one order.

    Attributes:
        keys: (n-grams,) int64, sorted: `context * V + word`. Of order 1 every word is there, seen or not.
        counts: (n-grams,) unsigned, the *adjusted* counts: how often the n-gram is seen if its order is the highest or
            it begins with the begin symbol; else how many words, the begin symbol being one, stand before it.
    """

    keys: npt.NDArray[np.int64]
    counts: npt.NDArray[np.unsignedinteger[Any]]


def count_ngrams(
    ids: npt.ArrayLike, *, num_words: int, end_ids: Collection[int], order: int
) -> tuple[NgramCounts, ...]:
    """Count all n-grams of orders 1 to `order`, sentence by sentence.

    Args:
        ids: (N,) word ids, each sentence closed by an end id.
        num_words: V, the size of the vocabulary.
        end_ids: the words that close a sentence.
        order: the length of the longest n-grams, at least 1.

    Returns:
        The n-grams of order 1, 2, ..., `order`.

    Raises:
        InputError: if `ids` or `end_ids` are not rows of ids below `num_words`.

    Example:
        The text "a b </s> a </s>", with a = 0, b = 1, </s> = 2 and the begin symbol 3 as a context. Two words stand
        before </s>; the bigram (begin, a) is seen twice.

        >>> unigrams, bigrams = count_ngrams([0, 1, 2, 0, 2], num_words=3, end_ids=[2], order=2)
        >>> unigrams.counts.tolist()
        [1, 1, 2]
        >>> [divmod(key, 3) for key in bigrams.keys.tolist()]
        [(0, 1), (0, 2), (1, 2), (3, 0)]
        >>> bigrams.counts.tolist()
        [1, 1, 1, 2]
    """
    words = checked_ids("a text", ids, num_words)
    begins = sentence_begins(words, end_mask(end_ids, num_words))
    keys: npt.NDArray[np.int64] = np.arange(num_words)
    seen: npt.NDArray[np.int64] = np.bincount(words, minlength=num_words)
    initial = np.zeros(num_words, dtype=bool)  # which n-grams begin with the begin symbol?
    nodes = words  # the n-gram that ends at each position
    levels = []
    for length in range(2, order + 1):
        contexts = contexts_along(nodes, begins, num_words if length == 2 else ABSENT)
        ends = np.flatnonzero(contexts != ABSENT)
        longer_keys, first, inverse, longer_seen = np.unique(
            contexts[ends] * num_words + words[ends], return_index=True, return_inverse=True, return_counts=True
        )
        shorter = nodes[ends[first]]  # each longer n-gram without its first word
        words_before = np.bincount(shorter, minlength=len(keys))
        levels.append(NgramCounts(keys, _narrow(np.where(initial, seen, words_before))))
        context = longer_keys // num_words
        initial = context == num_words if length == 2 else initial[context]
        keys, seen = longer_keys, longer_seen
        nodes = np.full_like(words, ABSENT)
        nodes[ends] = inverse
    return (*levels, NgramCounts(keys, _narrow(seen)))


def checked_ids(what: str, ids: npt.ArrayLike, num_words: int) -> npt.NDArray[np.int64]:
    """`ids` as a row of 64-bit word ids.

    Raises:
        InputError: if they are not a row of whole numbers from 0 to `num_words` - 1.
    """
    row = np.asarray(ids)
    if row.size == 0:
        row = row.astype(np.int64)  # numpy reads an empty list as floats
    if row.ndim != 1 or not np.issubdtype(row.dtype, np.integer):
        raise InputError(
            f"{what} must be a row of word ids, not {row.dtype} of shape {row.shape}: encode the words first"
        )
    if row.size and not (row.min() >= 0 and row.max() < num_words):
        outside = row[(row < 0) | (row >= num_words)][0]
        raise InputError(
            f"{what} holds the id {outside}, outside the vocabulary of {num_words} words: "
            "encode it with the vocabulary of the training text"
        )
    return row.astype(np.int64)


def end_mask(end_ids: Collection[int], num_words: int) -> npt.NDArray[np.bool_]:
    """(V,) whether a word closes a sentence.

    Raises:
        InputError: if an end id is not a word.
    """
    mask = np.zeros(num_words, dtype=bool)
    mask[checked_ids("the list of sentence ends", list(end_ids), num_words)] = True
    return mask


def sentence_begins(words: npt.NDArray[np.int64], is_end: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N,) whether a sentence begins at a position: at the first, and after every end."""
    begins = np.ones(len(words), dtype=bool)
    begins[1:] = is_end[words[:-1]]
    return begins


def contexts_along(
    nodes: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_], begin_node: int
) -> npt.NDArray[np.int64]:
    """(N,) the context of each position: the node that ends one earlier, or `begin_node` where a sentence begins."""
    contexts = np.empty_like(nodes)
    contexts[1:] = nodes[:-1]
    contexts[begins] = begin_node
    return contexts


def _narrow(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The same counts in the fewest bytes that hold them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
