import numpy as np
import pytest

from throughtime.errors import InputError
from throughtime.ngram.counts import checked_ids, count_ngrams


def as_dictionary(level, contexts, num_words):
    """{(words of the context, word): count} of one order, and its nodes in the same form."""
    grams = [contexts[key // num_words] + (key % num_words,) for key in level.keys.tolist()]
    return dict(zip(grams, level.counts.tolist(), strict=True)), grams


def test_counts_of_each_order():
    """The text "a b </s> a a b </s>" with a = 0, b = 1, </s> = 2 and the begin symbol 3."""
    levels = count_ngrams([0, 1, 2, 0, 0, 1, 2], num_words=3, end_ids=[2], order=3)
    unigrams, nodes = as_dictionary(levels[0], [()], 3)
    bigrams, nodes = as_dictionary(levels[1], [*nodes, (3,)], 3)
    trigrams, _ = as_dictionary(levels[2], nodes, 3)
    assert unigrams == {(0,): 2, (1,): 1, (2,): 1}  # words before: begin and a; a; b
    # (begin, a) keeps its raw count; before (a, b) stand begin and a.
    assert bigrams == {(3, 0): 2, (0, 0): 1, (0, 1): 2, (1, 2): 1}
    assert trigrams == {(3, 0, 1): 1, (3, 0, 0): 1, (0, 0, 1): 1, (0, 1, 2): 2}


def test_the_counts_of_order_one_are_raw():
    (unigrams,) = count_ngrams([0, 0, 0, 2], num_words=4, end_ids=[2], order=1)
    assert unigrams.counts.tolist() == [3, 0, 1, 0]


def test_keys_are_sorted_and_counts_narrow():
    ids = np.random.default_rng(0).integers(0, 9, 3000)
    for level in count_ngrams(ids, num_words=9, end_ids=[0], order=4):
        assert (np.diff(level.keys) > 0).all()
        assert level.counts.dtype.itemsize <= 2


def test_no_ngram_spans_two_sentences():
    levels = count_ngrams([0, 2, 1, 2], num_words=3, end_ids=[2], order=3)
    assert len(levels[2].keys) == 2  # (begin a </s>) and (begin b </s>)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
def test_ids_of_any_whole_type_are_the_same(dtype):
    row = checked_ids("a text", np.array([3, 0, 1], dtype=dtype), 4)
    assert row.dtype == np.int64
    assert row.tolist() == [3, 0, 1]


def test_an_empty_row_is_a_row():
    assert checked_ids("a text", [], 4).dtype == np.int64


@pytest.mark.parametrize("ids", [[4], [-1], [1.0], [[1]], 1, ["a"], [True]])
def test_other_ids_are_refused(ids):
    with pytest.raises(InputError, match="a text"):
        checked_ids("a text", ids, 4)
