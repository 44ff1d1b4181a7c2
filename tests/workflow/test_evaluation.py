"""A run on a text, alone and in mixtures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import throughtime
from throughtime.errors import InputError, RecipeError
from throughtime.text import open_corpus
from tiny import made_text


def test_without_text_it_is_the_runs_own_test_part(runs: dict[str, Path]) -> None:
    found = throughtime.evaluate(runs["recurrent"])
    corpus = open_corpus(runs["recurrent"] / "corpus")
    assert found.heads["next"].num_words == len(corpus.test)
    assert found.unknown_rate == corpus.unknown_rate["test"]
    assert found.mixture is None


def test_unknown_words_are_scored_and_their_rate_is_told(runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "strange.txt"
    path.write_text("The zyzzyva lit his qwerty.\n" * 20, encoding="utf-8")
    found = throughtime.evaluate(runs["recurrent"], path)
    assert found.unknown_rate == pytest.approx(2 / 6)
    assert found.num_words == 120
    assert math.isfinite(found.heads["next"].perplexity)


def test_text_like_the_training_text_is_likelier(runs: dict[str, Path], tmp_path: Path) -> None:
    like, unlike = tmp_path / "like.txt", tmp_path / "unlike.txt"
    text = made_text(100, seed=77)
    like.write_text(text, encoding="utf-8")
    words = text.split()
    unlike.write_text(" ".join(np.random.default_rng(0).permutation(words)), encoding="utf-8")
    one, other = (throughtime.evaluate(runs["recurrent"], path).heads["next"].perplexity for path in (like, unlike))
    assert one < other / 3


def test_a_mixture_is_at_least_as_good_on_what_it_was_fitted_to(runs: dict[str, Path]) -> None:
    found = throughtime.evaluate(runs["recurrent"], ngram=True, cache=True)
    assert found.mixture is not None
    assert sum(found.mixture.weights.values()) == pytest.approx(1.0)
    assert set(found.mixture.weights) == {"network", "ngram", "cache"}
    assert found.mixture.perplexity < found.heads["next"].perplexity * 1.05
    assert found.mixture.theta is None


def test_a_continuous_cache_is_a_part_with_a_theta_that_was_chosen(runs: dict[str, Path]) -> None:
    found = throughtime.evaluate(runs["recurrent"], continuous_cache=True)
    assert found.mixture is not None
    assert found.mixture.theta is not None
    assert set(found.mixture.weights) == {"network", "continuous_cache"}
    assert found.mixture.theta > 0
    assert found.mixture.perplexity < found.heads["next"].perplexity * 1.05
    assert found.to_json()["mixture"]["theta"] == found.mixture.theta


def test_what_a_continuous_cache_learns_is_used(runs: dict[str, Path], tmp_path: Path) -> None:
    """A text that says one thing over and over is likelier with it."""
    path = tmp_path / "again.txt"
    path.write_text("The zyzzyva lit his pipe and the dog ran home.\n" * 40, encoding="utf-8")
    found = throughtime.evaluate(runs["recurrent"], path, continuous_cache=True)
    assert found.mixture is not None
    assert found.mixture.perplexity < found.heads["next"].perplexity


@pytest.mark.parametrize("kind", ["recurrent", "window"])
def test_a_network_that_goes_on_learning(runs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A text that says one thing over and over, unlike the training text: only what learns from it foretells it."""
    path = tmp_path / "again.txt"
    path.write_text("Home ran dog the and pipe his lit zyzzyva the.\n" * 60, encoding="utf-8")
    told: list[tuple[int, int]] = []
    found = throughtime.evaluate(
        runs[kind], path, dynamic=True, ngram=True, progress=lambda done, total: told.append((done, total))
    )
    num_words = found.heads["next"].num_words
    assert told == [(min(done, num_words), num_words) for done in range(0, num_words + 64, 64)]
    assert found.dynamic is not None
    assert found.mixture is not None
    assert found.dynamic.num_words == num_words
    assert found.dynamic.perplexity <= found.heads["next"].perplexity * 1.001
    assert set(found.mixture.weights) == {"network", "ngram", "dynamic_network"}
    assert found.to_json()["dynamic"]["perplexity"] == found.dynamic.perplexity
    assert throughtime.evaluate(runs[kind], path).dynamic is None


def test_how_to_read_a_text_that_is_not_given(runs: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match="encoding say how a text is read, and there is none"):
        throughtime.evaluate(runs["recurrent"], encoding="latin-1")


def test_a_cloze_model_has_no_mixture(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="a cloze model has not"):
        throughtime.evaluate(runs["cloze"], ngram=True)
    with pytest.raises(InputError, match="dynamic evaluation predict the next word, which a cloze model has not"):
        throughtime.evaluate(runs["cloze"], dynamic=True)
    assert throughtime.evaluate(runs["cloze"]).heads["blank"].perplexity > 1
