import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import InputError, RecipeError
from throughtime.ngram import UnigramCache

TEXTS = st.lists(st.integers(0, 4), max_size=40)
HALF_LIVES = st.floats(1, 1000)


@settings(deadline=None)
@given(TEXTS, HALF_LIVES)
def test_targets_are_what_the_distributions_say(text, half_life_words):
    cache = UnigramCache(5, half_life_words)
    expected = [cache.distribution(text[:place])[word] for place, word in enumerate(text)]
    np.testing.assert_allclose(cache.target_probabilities(text), expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(TEXTS, HALF_LIVES)
def test_it_is_a_distribution(text, half_life_words):
    probabilities = UnigramCache(5, half_life_words).distribution(text)
    assert probabilities.shape == (5,)
    assert probabilities.min() >= 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_a_half_life_halves():
    cache = UnigramCache(3, 10)
    probabilities = cache.distribution([0, *[2] * 9, 1])  # 0 is ten words older than 1
    assert probabilities[0] / probabilities[1] == pytest.approx(0.5)


def test_a_long_half_life_is_the_share_of_all_words():
    np.testing.assert_allclose(UnigramCache(3, 1e12).distribution([0, 0, 1, 0]), [0.75, 0.25, 0], atol=1e-9)


def test_a_word_long_ago_is_forgotten_without_a_warning():
    assert UnigramCache(2, 1).distribution([0, *[1] * 5000])[0] == 0
    assert UnigramCache(2, 1).target_probabilities([0, *[1] * 5000, 0])[-1] == 0


@pytest.mark.parametrize("choices", [{"num_words": 0}, {"half_life_words": 0.5}, {"half_life_words": float("nan")}])
def test_choices_are_checked(choices):
    with pytest.raises(RecipeError, match="must be at least 1"):
        UnigramCache(**{"num_words": 5, **choices})


def test_other_words_are_refused():
    cache = UnigramCache(5)
    for call in (cache.distribution, cache.target_probabilities):
        with pytest.raises(InputError, match="outside the vocabulary of 5 words"):
            call([5])
