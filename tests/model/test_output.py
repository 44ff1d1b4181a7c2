"""The sampled softmax estimates without bias what the exact one computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from throughtime.model import OutputLayer

V, E, N = 300, 6, 40


def layer(sample_size: int) -> OutputLayer:
    counts = torch.arange(V, 0, -1).float() ** 2
    return OutputLayer(torch.randn(V, E) * 0.7, counts, sample_size=sample_size)


def test_the_bias_starts_at_the_log_frequency() -> None:
    output = layer(0)
    empty = torch.zeros(1, E)
    assert torch.allclose(output.log_probabilities(empty).exp(), output.bias.exp()[None], atol=1e-6)


def test_what_the_frequencies_alone_give() -> None:
    output = layer(0)
    targets = torch.multinomial(output.bias.detach().exp(), 40_000, replacement=True)
    empty = torch.zeros(len(targets), E)
    loss = -output.target_log_probabilities(empty, targets).mean().detach()
    assert output.frequency_nats == pytest.approx(float(loss), abs=0.03)


def test_a_small_vocabulary_is_not_sampled() -> None:
    output = layer(V)
    features, targets = torch.randn(N, E), torch.randint(V, (N,))
    exact = F.cross_entropy(features @ output.weight.t() + output.bias, targets)
    assert not output.samples
    assert torch.allclose(output.loss(features, targets), exact, atol=1e-6)


def test_the_estimated_sum_over_words_is_unbiased() -> None:
    output = layer(30)
    features = torch.randn(1, E)
    logits = (features @ output.weight.t() + output.bias).double().detach()
    present = torch.tensor([3, 200])
    true_sum = float(logits.exp().sum())
    draws = []
    for _ in range(4000):
        words, log_inclusion = output._sample(present)
        assert not set(words.tolist()) & {3, 200}
        parts = (logits[0, words] - log_inclusion.double()).exp().sum() + logits[0, present].exp().sum()
        draws.append(float(parts))
    estimates = torch.tensor(draws, dtype=torch.float64)
    error = float(estimates.std() / len(draws) ** 0.5)
    assert error < 0.02 * true_sum
    assert abs(float(estimates.mean()) - true_sum) < 4 * error


def test_the_sampled_loss_and_its_gradient_come_near_the_exact_ones() -> None:
    output = layer(100)
    features, targets = torch.randn(N, E, requires_grad=True), torch.randint(V, (N,))
    exact = F.cross_entropy(features @ output.weight.t() + output.bias, targets)
    (exact_gradient,) = torch.autograd.grad(exact, features)
    losses, gradient = [], torch.zeros_like(features)
    for _ in range(200):
        loss = output.loss(features, targets)
        gradient += torch.autograd.grad(loss, features)[0] / 200
        losses.append(float(loss.detach()))
    # The sum over words is unbiased, so its logarithm lies below by Jensen's inequality: a little, and never above.
    shortfall = float(exact.detach()) - sum(losses) / 200
    assert 0.0 < shortfall < 0.05
    assert float((gradient - exact_gradient).norm() / exact_gradient.norm()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_word_of_the_sample_gets_a_gradient(dtype: torch.dtype) -> None:
    output = OutputLayer(torch.nn.Parameter(torch.randn(V, E)), torch.ones(V), sample_size=50, matmul_dtype=dtype)
    output.loss(torch.randn(N, E), torch.full((N,), 7)).backward()
    assert isinstance(output.weight, torch.nn.Parameter)
    assert output.weight.grad is not None
    touched = int((output.weight.grad.abs().sum(1) > 0).sum())
    assert touched == 51


def test_scores_are_the_exact_log_probability_and_rank() -> None:
    output = layer(20)
    features, targets = torch.randn(2500, E), torch.randint(V, (2500,))
    scores = output.score(features, targets)
    everything = output.log_probabilities(features)
    assert torch.allclose(everything.exp().sum(1), torch.ones(2500), atol=1e-5)
    own = everything.gather(1, targets[:, None])
    assert torch.allclose(scores.log_probability, own[:, 0], atol=1e-5)
    assert torch.equal(scores.rank, (everything > own).sum(1))


@pytest.mark.parametrize("sample_size", [0, 50])
def test_bfloat16_comes_near_float32(sample_size: int) -> None:
    torch.manual_seed(0)
    weight, features, targets = torch.randn(V, E), torch.randn(N, E), torch.randint(V, (N,))
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        own, x = torch.nn.Parameter(weight.clone()), features.clone().requires_grad_()
        output = OutputLayer(own, torch.ones(V), sample_size=sample_size, matmul_dtype=dtype)
        torch.manual_seed(1)
        loss = output.loss(x, targets)
        found.append([loss.detach(), *torch.autograd.grad(loss * 3, (x, own, output.bias))])
    for mixed, exact in zip(*found, strict=True):
        assert 0 < float((mixed - exact).abs().max() / exact.abs().max()) < 0.02
