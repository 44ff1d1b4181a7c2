"""Dynamic evaluation: each word from the words before it alone, with weights that follow the text by the rule."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from throughtime.model import NEXT, WordPredictor
from throughtime.recipe import Recipe, build
from throughtime.training import DynamicRule, dynamic_rule, score_dynamically
from throughtime.training.dynamic import DAMPING, DECAY, RATES, WINDOW

V = 40


def model_of(kind: str = "recurrent", counts: torch.Tensor | None = None) -> WordPredictor:
    torch.manual_seed(0)
    recipe = Recipe().chosen(model=kind, hidden_size=6, embedding_size=5, sample_size=3, dropout=0.5)
    counts = torch.arange(1, V + 1).float() if counts is None else counts
    return build(recipe, counts, matmul_dtype=torch.float32)


def plain_rule(model: WordPredictor, rate: float, pull: float = 0.0) -> DynamicRule:
    return DynamicRule(
        rate,
        tuple(torch.ones_like(weight) for weight in model.parameters()),
        tuple(torch.full_like(weight, pull) for weight in model.parameters()),
    )


def words(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, count).astype(np.uint16)


def own_log_probability(model: WordPredictor, ids: np.ndarray) -> torch.Tensor:
    """(N,) of each word, all of them read at once."""
    around = [0] * 10
    rows = torch.tensor([*around, *ids.tolist(), *around])[:, None]
    features, _ = model.features(rows, 10, 10 + len(ids), model.initial_state(1))
    return model.output.log_probabilities(features[NEXT][:, 0]).gather(1, rows[10 : 10 + len(ids)])[:, 0]


@pytest.mark.parametrize("kind", ["recurrent", "window"])
def test_without_steps_it_is_the_model(kind: str) -> None:
    model, ids = model_of(kind), words(3 * WINDOW + 5)
    found = score_dynamically(model, ids, plain_rule(model, 0.0), padding=0)
    model.eval()
    with torch.no_grad():
        expected = own_log_probability(model, ids)
    assert found.log_probability[NEXT] == pytest.approx(expected.double().numpy(), rel=2e-4)
    assert np.array_equal(found.positions, np.arange(len(ids)))


def test_a_step_is_the_step_of_the_paper() -> None:
    """The second window of a model without memory, after one step made by hand."""
    model, ids = model_of("window"), words(2 * WINDOW)
    rule = DynamicRule(
        0.3,
        tuple(torch.rand_like(weight) for weight in model.parameters()),
        tuple(0.1 * torch.rand_like(weight) for weight in model.parameters()),
    )
    found = score_dynamically(model, ids, rule, padding=0).log_probability[NEXT]
    after = copy.deepcopy(model).eval()
    loss = -own_log_probability(after, ids)[:WINDOW].mean()
    gradients = torch.autograd.grad(loss, list(after.parameters()), allow_unused=True)
    with torch.no_grad():
        for weight, gradient, scale, pull in zip(after.parameters(), gradients, rule.scales, rule.pulls, strict=True):
            stepped = weight - 0.3 * scale * (0 if gradient is None else gradient)
            weight.copy_(stepped + pull * (weight - stepped))
        expected = own_log_probability(after, ids)
    assert found[WINDOW:] == pytest.approx(expected[WINDOW:].double().numpy(), rel=1e-4)
    assert found[:WINDOW].mean() == pytest.approx(-loss.item(), rel=1e-5)


def test_no_word_is_predicted_from_words_behind_it() -> None:
    model, ids = model_of(), words(4 * WINDOW)
    rule = plain_rule(model, 0.5)
    whole = score_dynamically(model, ids, rule, padding=0).log_probability[NEXT]
    for cut in (WINDOW, 2 * WINDOW + 7):
        other = ids.copy()
        other[cut:] = words(len(ids) - cut, seed=1)
        changed = score_dynamically(model, other, rule, padding=0).log_probability[NEXT]
        assert np.array_equal(changed[:cut], whole[:cut])
        assert not np.array_equal(changed[cut:], whole[cut:])


def test_the_model_is_left_as_it_was() -> None:
    model, ids = model_of(), words(3 * WINDOW)
    before = copy.deepcopy(model.state_dict())
    rule = dynamic_rule(model, ids, ids, padding=0)
    score_dynamically(model, ids, DynamicRule(1.0, rule.scales, rule.pulls), padding=0)
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_what_a_text_says_again_is_learned() -> None:
    model, again = model_of(), np.tile(words(20), 40)
    rule = dynamic_rule(model, words(2000), again, padding=0)
    assert rule.rate in RATES
    follows = DynamicRule(0.05, rule.scales, rule.pulls)
    found = score_dynamically(model, again, follows, padding=0).log_probability[NEXT]
    assert found[-WINDOW:].mean() > found[:WINDOW].mean() + 0.5


def test_where_steps_do_harm_there_are_none() -> None:
    """Each window has the words that the one before it had not: a step towards either is a step away from the next."""
    model = model_of("window", counts=torch.ones(V))
    with torch.no_grad():
        model.embedding.weight.mul_(0.01)
    halves = [np.tile(np.arange(V // 2) + half, 4)[:WINDOW] for half in (0, V // 2)] * 10
    assert dynamic_rule(model, words(2000), np.concatenate(halves), padding=0).rate == 0.0


def test_scales_come_from_the_training_text() -> None:
    """A model of one window: the root of the mean squared gradient is the gradient's size."""
    model, train = model_of("window"), words(WINDOW)
    rule = dynamic_rule(model, train, words(10), padding=0)
    model.eval()
    loss = -own_log_probability(model, train).mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    mean = torch.cat([gradient.abs().flatten() for gradient in gradients]).mean()
    for gradient, scale, pull in zip(gradients, rule.scales, rule.pulls, strict=True):
        torch.testing.assert_close(scale, 1 / (gradient.abs() + DAMPING * mean), rtol=1e-3, atol=0.0)
        torch.testing.assert_close(pull, (DECAY * gradient.abs() / mean).clamp(max=1.0), rtol=1e-2, atol=1e-8)
