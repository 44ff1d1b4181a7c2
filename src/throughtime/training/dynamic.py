"""Dynamic evaluation: a model that goes on learning from the text it is scored on, always behind the words scored.

Every window of the text, in order, is scored with the weights as they are; then these take one step down its loss and
are pulled a little towards what training made of them:

    theta <- theta - rate * g / (r + DAMPING * mean(r)) + min(DECAY * r / mean(r), 1) * (theta_0 - theta)

`r` is the root of the mean squared gradient of single windows of the training text, `mean(r)` its mean over all
weights, `theta_0` the trained weights. No word is predicted from itself or from any word behind it.

*Reference*: Mikolov et al. 2010 (dynamic models); Krause et al. 2018, arXiv:1709.07432 (scaled, with decay).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from throughtime.model import NEXT, State, WordPredictor
from throughtime.text.batches import Stretch, whole_text
from throughtime.training.evaluation import ScoredPart

__all__ = ["DynamicRule", "dynamic_rule", "score_dynamically"]

WINDOW = 64
"""Words scored between two steps."""
DAMPING = 10.0
"""Mean sizes of a gradient that are added to each weight's own: words that are rare, with hardly any, keep still so."""
DECAY = 0.0003
"""Share of the way back to its trained value that a weight goes at each step, where its gradient has the mean size."""
RATES = (0.0001, 0.0003, 0.001)
"""Tried, and 0; a gradient of ten times the mean size moves its weight by half of the rate."""
WINDOWS_TO_SCALE = 100
"""Windows of the training text that gradients are taken of."""
WORDS_TO_CHOOSE = 4_000
"""Words of the held-out text on which a rate is chosen."""


@dataclass(frozen=True)
class DynamicRule:
    """How the weights of a model follow a text.

    Attributes:
        rate: of the steps; 0 leaves the weights as they are.
        scales: `1 / (r + DAMPING * mean(r))`, one tensor for each parameter of the model, in its order.
        pulls: `min(DECAY * r / mean(r), 1)`, likewise.
    """

    rate: float
    scales: tuple[Tensor, ...]
    pulls: tuple[Tensor, ...]


def dynamic_rule(model: WordPredictor, train: np.ndarray, held_out: np.ndarray, *, padding: int) -> DynamicRule:
    """Scales from windows all over the training text, and the rate that foretells the held-out text best.

    Args:
        model: a predictor of the next word; it is left as it is.
        train: (N,) the training text.
        held_out: (M,) whose first 4,000 words are read once for each rate, and once without steps.
        padding: the id that stands outside the text.
    """
    twin = _twin(model)
    mean_square = [torch.zeros_like(weight) for weight in twin.parameters()]
    starts = np.linspace(0, max(0, len(train) - 2 * WINDOW), WINDOWS_TO_SCALE).astype(np.int64)
    for start in starts.tolist():
        state = twin.initial_state(1)
        for window in _windows(twin, train[start : start + 2 * WINDOW], padding=padding):
            read = _Read.of(twin, window, state)
            state = read.state
        for total, gradient in zip(mean_square, read.gradients(twin), strict=True):
            total.addcmul_(gradient, gradient, value=1 / len(starts))
    roots = [total.sqrt_() for total in mean_square]
    mean = sum(float(root.sum(dtype=torch.float64)) for root in roots) / sum(root.numel() for root in roots)
    scales = tuple(1 / (root + DAMPING * mean) for root in roots)
    pulls = tuple((root * (DECAY / mean)).clamp_(max=1.0) for root in roots)
    rules = [DynamicRule(rate, scales, pulls) for rate in (0.0, *RATES)]
    return min(rules, key=lambda rule: _nats(model, held_out[:WORDS_TO_CHOOSE], rule, padding=padding))


def score_dynamically(
    model: WordPredictor,
    ids: np.ndarray,
    rule: DynamicRule,
    *,
    padding: int,
    progress: Callable[[int, int], None] | None = None,
) -> ScoredPart:
    """Score every word of a text once as the next word, in order, with weights that follow the text.

    Args:
        model: a predictor of the next word; what follows the text is a copy of it.
        ids: (N,) the text, read as one stream.
        rule: how the weights follow.
        padding: the id that stands outside the text.
        progress: is told after each window how many words are scored, and of how many.

    Returns:
        All N words; not finite where the steps were too large for the model.
    """
    twin = _twin(model)
    trained = [weight.detach().clone() for weight in twin.parameters()]
    log_probability, rank = np.empty(len(ids)), np.empty(len(ids), dtype=np.int64)
    state = twin.initial_state(1)
    for window in _windows(model, ids, padding=padding):
        read = _Read.of(twin, window, state)
        positions = window.positions[:, 0]
        log_probability[positions], rank[positions], state = read.log_probability, read.rank, read.state
        if rule.rate:
            _step(twin, trained, read, rule)
        if progress is not None:
            progress(int(positions[-1]) + 1, len(ids))
    return ScoredPart(np.arange(len(ids)), {NEXT: log_probability}, {NEXT: rank})


@torch.no_grad()
def _step(twin: WordPredictor, trained: list[Tensor], read: _Read, rule: DynamicRule) -> None:
    parts = zip(twin.parameters(), read.gradients(twin), rule.scales, rule.pulls, trained, strict=True)
    for weight, gradient, scale, pull, origin in parts:
        weight.addcmul_(gradient, scale, value=-rule.rate).lerp_(origin, pull)


@dataclass(frozen=True)
class _Read:
    """A window of one stream: (T,) log probabilities and ranks, the state after it, and its loss with its graph."""

    loss: Tensor
    log_probability: np.ndarray
    rank: np.ndarray
    state: State

    @classmethod
    def of(cls, twin: WordPredictor, window: Stretch, state: State) -> _Read:
        rows, first, last = _rows(twin, window)
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            features, after = twin.features(rows, first, last, state)
            scores = twin.output.log_probabilities(features[NEXT][:, 0])
            own = scores.gather(1, rows[first:last])
        return cls(
            -own.mean(),
            own[:, 0].detach().double().cpu().numpy(),
            (scores.detach() > own.detach()).sum(1).cpu().numpy(),
            tuple(part.detach() for part in after),
        )

    def gradients(self, twin: WordPredictor) -> tuple[Tensor, ...]:
        """Of the loss by every parameter, zero where it does not depend on one."""
        return torch.autograd.grad(self.loss, list(twin.parameters()), allow_unused=True, materialize_grads=True)


def _twin(model: WordPredictor) -> WordPredictor:
    return copy.deepcopy(model).eval().requires_grad_(True)


def _windows(model: WordPredictor, ids: np.ndarray, *, padding: int) -> Iterator[Stretch]:
    around = {"before": model.before, "after": 2 * model.after}
    return whole_text(ids, num_streams=1, window=WINDOW, padding=padding, **around)


def _rows(twin: WordPredictor, window: Stretch) -> tuple[Tensor, int, int]:
    return torch.from_numpy(window.ids).to(twin.embedding.weight.device), window.first, window.last


def _nats(model: WordPredictor, ids: np.ndarray, rule: DynamicRule, *, padding: int) -> float:
    """The loss of a text under a rule, infinite where it is not finite."""
    nats = -float(score_dynamically(model, ids, rule, padding=padding).log_probability[NEXT].sum())
    return nats if math.isfinite(nats) else math.inf
