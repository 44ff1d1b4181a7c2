"""An evaluation is the exact softmax over the whole text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from throughtime.model import BLANK, NEXT, Head, WordPredictor
from throughtime.recipe import Recipe, build
from throughtime.training import evaluate, scored_parts, scored_text

V = 40


def model_of(kind: str) -> WordPredictor:
    recipe = Recipe().chosen(model=kind, hidden_size=6, embedding_size=5, sample_size=3)
    return build(recipe, torch.arange(1, V + 1).float(), matmul_dtype=torch.float32)


@pytest.mark.parametrize(("kind", "head"), [("recurrent", NEXT), ("window", NEXT), ("window", BLANK), ("cloze", BLANK)])
def test_it_is_the_mean_over_all_words(kind: str, head: Head) -> None:
    model = model_of(kind)
    ids = np.random.default_rng(0).integers(0, V, 50).astype(np.uint16)
    found = evaluate(model, ids, padding=0)[head]
    assert model.training
    model.eval()
    around = [0] * 10
    rows = torch.tensor([*around, *ids.tolist(), *around])[:, None]
    with torch.no_grad():
        features, _ = model.features(rows, 10, 60, model.initial_state(1))
        log_probability = model.output.log_probabilities(features[head][:, 0])
    targets = rows[10:60]
    own = log_probability.gather(1, targets)
    assert found.num_words == 50
    assert found.loss_nats == pytest.approx(-float(own.mean()), rel=2e-4)
    ranks = (log_probability > own).sum(1)
    assert found.top1 == pytest.approx(float((ranks < 1).float().mean()))
    assert found.top5 == pytest.approx(float((ranks < 5).float().mean()))
    assert found.perplexity == pytest.approx(np.exp(found.loss_nats))
    assert found.context_carried == (kind != "window")


def test_every_position_comes_once() -> None:
    model = model_of("recurrent")
    ids = np.random.default_rng(1).integers(0, V, 5000).astype(np.uint16)
    positions = np.concatenate([part.positions for part in scored_parts(model, ids, padding=0)])
    assert np.array_equal(np.sort(positions), np.arange(5000))


@pytest.mark.parametrize("kind", ["recurrent", "cloze"])
def test_a_scored_text_stands_in_its_order(kind: str) -> None:
    model = model_of(kind)
    ids = np.random.default_rng(2).integers(0, V, 3000).astype(np.uint16)
    found = scored_text(model, ids, padding=0, limit=400)
    for head in model.heads:
        own = dict(zip(*_scored(model, ids, head), strict=True))
        assert np.array_equal(np.flatnonzero(np.isfinite(found.log_probability[head])), sorted(own))
        assert np.array_equal(np.flatnonzero(found.rank[head] >= 0), sorted(own))
        assert 0 < len(own) < 3000
        assert all(found.log_probability[head][position] == value for position, value in own.items())


def _scored(model: WordPredictor, ids: np.ndarray, head: Head) -> tuple[list[int], list[float]]:
    parts = list(scored_parts(model, ids, padding=0, limit=400))
    positions = np.concatenate([part.positions for part in parts])
    return positions.tolist(), np.concatenate([part.log_probability[head] for part in parts]).tolist()
