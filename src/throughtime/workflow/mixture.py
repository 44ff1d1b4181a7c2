"""The network mixed with what counting and remembering know, the weights fitted on held-out text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from throughtime.model import NEXT
from throughtime.ngram import ContinuousCache, UnigramCache, mix, mixture_weights
from throughtime.training import contexts, scored_text
from throughtime.workflow.predictor import Predictor

__all__ = ["CACHE", "CONTINUOUS", "DYNAMIC", "NETWORK", "NGRAM", "Fitted", "Mixture", "fit"]

NETWORK, NGRAM, CACHE, CONTINUOUS = "network", "ngram", "cache", "continuous_cache"
DYNAMIC = "dynamic_network"
"""The network that goes on learning from the text, beside the one that does not."""
WORDS_TO_FIT = 200_000
"""Words of the held-out text on which the weights are fitted at most."""
WORDS_TO_CHOOSE = 20_000
"""Words of it on which theta of the continuous cache is chosen."""
SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Values of theta that are tried, times the mean of |h|^2: how many nats likelier a context makes itself."""
PIECE = 100_000
"""Words whose contexts are in memory at a time."""


@dataclass(frozen=True)
class Mixture:
    """The network interpolated with an n-gram model and caches, `p = sum_k w_k p_k`, on a text.

    Attributes:
        weights: of each part, by name; fitted on the validation text of the run.
        perplexity: of the mixture on the text that was evaluated.
        theta: of the continuous cache, if it is a part; chosen on the validation text too.
    """

    weights: dict[str, float]
    perplexity: float
    theta: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Fitted:
    """A mixture that can be asked.

    Attributes:
        predictor: the network and its n-gram model.
        weights: of each part, by name.
        theta: of the continuous cache; None where it is no part.
    """

    predictor: Predictor
    weights: dict[str, float]
    theta: float | None

    def on(self, ids: np.ndarray, known: Mapping[str, np.ndarray] | None = None) -> Mixture:
        """How well it predicts a text; `known` is what parts that `fit` was given so give its words."""
        known = known or {}
        parts = [
            known[name] if name in known else _target_probabilities(self.predictor, name, ids, self.theta)
            for name in self.weights
        ]
        perplexity = math.exp(-float(np.log(mix(parts, list(self.weights.values()))).mean()))
        return Mixture(self.weights, perplexity, self.theta)


def fit(
    predictor: Predictor, held_out: np.ndarray, names: list[str], known: Mapping[str, np.ndarray] | None = None
) -> Fitted:
    """Fit the weights of the network and the named parts, and theta of a continuous cache, on held-out text.

    Args:
        predictor: the network and its n-gram model.
        held_out: (N,) the text, of which 200,000 words are read at most.
        names: of parts.
        known: further parts by name: the (N,) probabilities they give the words of the text.
    """
    ids = held_out[:WORDS_TO_FIT]
    names = [NETWORK, *names]
    parts = {name: _target_probabilities(predictor, name, ids) for name in names if name != CONTINUOUS}
    parts |= {name: probabilities[: len(ids)] for name, probabilities in (known or {}).items()}
    theta = None
    if CONTINUOUS in names:
        theta = _chosen_theta(predictor, ids[:WORDS_TO_CHOOSE], [part[:WORDS_TO_CHOOSE] for part in parts.values()])
        parts[CONTINUOUS] = _target_probabilities(predictor, CONTINUOUS, ids, theta)
    weights = mixture_weights(list(parts.values()))
    return Fitted(predictor, dict(zip(parts, map(float, weights), strict=True)), theta)


def _chosen_theta(predictor: Predictor, ids: np.ndarray, others: list[np.ndarray]) -> float:
    """The theta under which the mixture makes the text likeliest."""
    vectors = contexts(predictor.model, ids, padding=predictor.vocabulary.end_ids[0])
    likelihoods = {}
    for sharpness in SHARPNESS:
        theta = float(sharpness / np.square(vectors).sum(axis=1).mean())
        cache = ContinuousCache(len(predictor.vocabulary), theta)
        parts = [*others, cache.target_probabilities(vectors, ids)]
        likelihoods[theta] = float(np.log(mix(parts, mixture_weights(parts))).mean())
    return max(likelihoods, key=lambda theta: likelihoods[theta])


def _target_probabilities(predictor: Predictor, name: str, ids: np.ndarray, theta: float | None = None) -> np.ndarray:
    """(N,) float64: the probability that a part gives the word at each position."""
    if name == NGRAM:
        return np.asarray(np.exp(predictor.ngram.log_probabilities(ids)))
    if name == CACHE:
        return UnigramCache(len(predictor.vocabulary)).target_probabilities(ids)
    if name == CONTINUOUS and theta is not None:
        return _continuous(predictor, ids, ContinuousCache(len(predictor.vocabulary), theta))
    found = scored_text(predictor.model, ids, padding=predictor.vocabulary.end_ids[0])
    return np.asarray(np.exp(found.log_probability[NEXT]))


def _continuous(predictor: Predictor, ids: np.ndarray, cache: ContinuousCache) -> np.ndarray:
    """Piece by piece of a text, each read with the words before it that the cache remembers."""
    found = np.empty(len(ids))
    for begin in range(0, len(ids), PIECE):
        oldest = max(0, begin - cache.size)
        piece = ids[oldest : begin + PIECE]
        vectors = contexts(predictor.model, piece, padding=predictor.vocabulary.end_ids[0])
        found[begin : begin + PIECE] = cache.target_probabilities(vectors, piece)[begin - oldest :]
    return found
