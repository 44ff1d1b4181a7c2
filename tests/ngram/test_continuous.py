import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import InputError, RecipeError
from throughtime.ngram import ContinuousCache
from throughtime.ngram.continuous import BLOCK

SEEDS = st.integers(0, 2**32 - 1)


def text(seed, num_words, size=3):
    random = np.random.default_rng(seed)
    return random.standard_normal((num_words, size)), random.integers(0, 5, num_words)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 40), st.integers(1, 50), st.floats(0, 3))
def test_targets_are_what_the_equation_says(seed, num_words, size, theta):
    contexts, ids = text(seed, num_words)
    expected = []
    for place in range(num_words):
        oldest = max(0, place - size)
        weights = np.exp(theta * contexts[oldest:place] @ contexts[place])
        expected.append((weights * (ids[oldest:place] == ids[place])).sum() / weights.sum() if place else 1 / 5)
    found = ContinuousCache(5, theta, size).target_probabilities(contexts, ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 40), st.integers(1, 50), st.floats(0, 3))
def test_the_next_word_is_as_the_targets_are(seed, num_words, size, theta):
    contexts, ids = text(seed, num_words + 1)
    cache = ContinuousCache(5, theta, size)
    probabilities = cache.distribution(contexts[:-1], ids[:-1], contexts[-1])
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    targets = cache.target_probabilities(contexts, ids)
    assert probabilities[ids[-1]] == pytest.approx(targets[-1], abs=1e-12)


def test_a_long_text_is_the_same_in_blocks():
    contexts, ids = text(0, 2 * BLOCK + 100)
    cache = ContinuousCache(5, 0.5, size=BLOCK - 7)
    found = cache.target_probabilities(contexts, ids)
    for place in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 99):
        distribution = cache.distribution(contexts[:place], ids[:place], contexts[place])
        assert found[place] == pytest.approx(distribution[ids[place]], abs=1e-12)


def test_with_theta_zero_it_is_the_share_of_the_words_remembered():
    contexts, ids = text(0, 6)
    shares = ContinuousCache(5, 0.0, size=4).distribution(contexts, ids, contexts[0])
    np.testing.assert_allclose(shares, np.bincount(ids[2:], minlength=5) / 4)


def test_large_products_do_not_overflow():
    contexts = np.full((3, 4), 1e3)
    np.testing.assert_allclose(ContinuousCache(2, 10.0).target_probabilities(contexts, [0, 0, 1]), [0.5, 1, 0])


def test_what_was_not_like_this_context_hardly_counts():
    contexts = np.array([[1.0, 0.0], [0.0, 1.0]])
    shares = ContinuousCache(3, 10.0).distribution(contexts, [1, 2], np.array([1.0, 0.0]))
    assert shares[1] > 0.9999


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"num_words": 0}, "must be at least 1"),
        ({"size": 0}, "must be at least 1"),
        ({"theta": -1.0}, "must be 0 or more"),
        ({"theta": float("nan")}, "must be 0 or more"),
    ],
)
def test_choices_are_checked(choices, words):
    with pytest.raises(RecipeError, match=words):
        ContinuousCache(**{"num_words": 5, "theta": 1.0, **choices})


def test_what_does_not_fit_is_refused():
    cache = ContinuousCache(5, 1.0)
    with pytest.raises(InputError, match="one vector a word: 2 came with 3"):
        cache.target_probabilities(np.ones((2, 4)), [0, 1, 2])
    with pytest.raises(InputError, match="outside the vocabulary of 5 words"):
        cache.distribution(np.ones((1, 4)), [5], np.ones(4))
