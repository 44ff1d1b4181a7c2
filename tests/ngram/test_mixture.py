import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from throughtime.errors import InputError
from throughtime.ngram import mix, mixture_weights

TABLES = arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(0.001, 1.0))


def mean_log(table, weights):
    return np.log(mix(list(table), weights)).mean()


@settings(deadline=None)
@given(TABLES)
def test_weights_sum_to_one_and_are_the_same_twice(table):
    weights = mixture_weights(list(table))
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_array_equal(weights, mixture_weights(list(table)))


@settings(deadline=None)
@given(TABLES, st.integers(0, 2**32 - 1))
def test_no_other_weights_are_better(table, seed):
    best = mean_log(table, mixture_weights(list(table)))
    others = np.random.default_rng(seed).dirichlet(np.ones(len(table)), 20)
    corners = np.eye(len(table))
    guaranteed = max(1e-6, np.log(len(table)) / 1000)
    assert best >= max(mean_log(table, weights) for weights in [*others, *corners]) - guaranteed


def test_two_models_by_calculus():
    """On two words the first model gives 0.5 and the second 0.1, on one it is the other way round.

    d/dw of 2 log(0.1 + 0.4 w) + log(0.5 - 0.4 w) is zero where 2 (0.5 - 0.4 w) = 0.1 + 0.4 w: w = 3/4.
    """
    weights = mixture_weights([np.array([0.5, 0.5, 0.1]), np.array([0.1, 0.1, 0.5])])
    assert weights == pytest.approx([0.75, 0.25], abs=1e-5)


def test_a_model_that_is_worse_everywhere_gets_nothing():
    assert mixture_weights([np.full(9, 0.5), np.full(9, 0.1)]) == pytest.approx([1, 0], abs=1e-5)


def test_equal_models_share():
    assert mixture_weights([np.full(9, 0.5)] * 4) == pytest.approx([0.25] * 4)


def test_one_model_may_give_zero():
    weights = mixture_weights([np.array([0.1, 0.1]), np.array([0.0, 0.9])])
    assert 0 < weights[1] < 1


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([], "the same words under each model, not"),
        ([[]], "not \\[0\\] words"),
        ([[0.1], [0.1, 0.2]], "not \\[1, 2\\] words"),
        ([[0.1, 0.0], [0.1, 0.0]], "no model gives word 1 a probability above zero"),
        ([[-2.3, -1.0], [-0.7, -4.0]], "not their logarithms"),
        ([[0.1, np.nan], [0.1, 0.2]], "no model gives word 1"),
    ],
)
def test_mistakes_are_named(probabilities, message):
    with pytest.raises(InputError, match=message):
        mixture_weights([np.array(model) for model in probabilities])


@pytest.mark.parametrize("weights", [[], [1.0], [0.2, 0.3, 0.5]])
def test_a_mixture_has_one_weight_a_model(weights):
    with pytest.raises(InputError, match="one weight a model"):
        mix([np.ones(2), np.ones(2)], weights)


def test_a_mixture_keeps_the_shape():
    mixed = mix([np.ones((2, 3)), np.zeros((2, 3))], [0.25, 0.75])
    np.testing.assert_array_equal(mixed, np.full((2, 3), 0.25))
