"""A trained network answers: next words, blanks, sentences; and says what it cannot."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import throughtime
from throughtime.errors import InputError, RecipeError, RunError
from throughtime.model import NEXT


def probability_of(predictor: throughtime.Predictor, ids: list[int]) -> float:
    """By the chain rule, word after word, each from a fresh start."""
    total = 0.0
    for at, word in enumerate(ids):
        with torch.no_grad():
            total += float(predictor.distribution(np.array(ids[:at], dtype=np.int64), None)[word])
    return total


def test_next_words_are_a_distribution(runs: dict[str, Path]) -> None:
    for model in ("recurrent", "window"):
        predictor = throughtime.load(runs[model])
        guesses = predictor.next("The old man lit his", top=10_000)
        assert guesses[0][0] == "pipe"
        shares = [share for _, share in guesses]
        assert shares == sorted(shares, reverse=True)
        assert 0.99 < sum(shares) <= 1.0 + 1e-6
        assert "<unk>" not in dict(guesses)


def test_no_words_ask_for_the_beginning_of_a_sentence(runs: dict[str, Path]) -> None:
    begins = dict(throughtime.load(runs["recurrent"]).next("", top=5))
    assert set(begins) <= {"The", "A", "My", "Nobody"} | set(begins)
    assert sum(begins.get(word, 0.0) for word in ("The", "A", "My", "Nobody")) > 0.8


@pytest.mark.parametrize("model", ["recurrent", "window", "cloze"])
def test_a_blank_is_filled(runs: dict[str, Path], model: str) -> None:
    predictor = throughtime.load(runs[model])
    guesses = predictor.fill("The old man ___ his pipe at night.", top=5)
    assert {word for word, _ in guesses} == {"lit", "dropped", "found", "mended", "forgot"}
    assert predictor.fill("The old man lit his ___ at night.")[0][0] == "pipe"


@pytest.mark.parametrize("model", ["recurrent", "window", "cloze"])
def test_two_blanks_are_both_filled(runs: dict[str, Path], model: str) -> None:
    predictor = throughtime.load(runs[model])
    words, share = predictor.fill("The ___ man lit his ___ at night.", top=3)[0]
    assert words == "old pipe"
    assert 0.1 < share <= 1.0
    assert predictor.filled("The ___ man lit his ___ at night.", words.split()) == "The old man lit his pipe at night."


def test_a_left_to_right_model_rescores_through_the_end_of_the_sentence(runs: dict[str, Path]) -> None:
    """Against brute force: every word in the blank, each sentence scored from its beginning."""
    predictor = throughtime.load(runs["recurrent"])
    tokens = predictor.tokens("The old man ___ his pipe at night.")
    ids, end = predictor.vocabulary.encode(tokens).tolist(), predictor.vocabulary.end_ids[0]
    blank = tokens.index("___")
    totals = []
    for word in range(len(predictor.vocabulary)):
        totals.append(probability_of(predictor, [*ids[:blank], word, *ids[blank + 1 :], end]))
    expected = torch.tensor(totals).log_softmax(0)
    found = predictor.blank_log_probabilities(np.array(ids), blank)
    assert float((found - expected).abs().max()) < 1e-4


def test_at_least_200_candidates_are_tried() -> None:
    from throughtime.workflow.predictor import CANDIDATES

    assert CANDIDATES >= 200


def test_the_blank_itself_is_never_read(runs: dict[str, Path]) -> None:
    for path in runs.values():
        predictor = throughtime.load(path)
        ids = predictor.vocabulary.encode(predictor.tokens("The old man lit his pipe at night."))
        other = ids.copy()
        other[3] = (ids[3] + 5) % len(predictor.vocabulary)
        one, two = (predictor.blank_log_probabilities(row, 3) for row in (ids, other))
        assert torch.equal(one, two)


def test_the_rank_of_a_word_is_that_of_its_probability(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throughtime.workflow.predictor.CANDIDATES", 3)
    ranks = []
    for path in runs.values():
        predictor = throughtime.load(path)
        ids = predictor.vocabulary.encode(predictor.tokens("The old man lit his pipe at night."))
        for blank in range(len(ids)):
            scores = predictor.blank_log_probabilities(ids, blank, candidates=3)
            ranks.append(predictor.blank_rank(ids, blank))
            assert ranks[-1] == int((scores > scores[ids[blank]]).sum())
    assert {0, 3} <= set(ranks)  # found, and not tried


def test_score_is_the_chain_rule(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    found = predictor.score("The old man lit his pipe.")
    assert [word for word, _ in found.words] == ["The", "old", "man", "lit", "his", "pipe", "."]
    ids = predictor.vocabulary.encode(predictor.tokens("The old man lit his pipe.")).tolist()
    assert found.log_probability == pytest.approx(probability_of(predictor, ids), abs=1e-3)
    assert not found.two_sided
    likely = predictor.score("The old man lit his pipe at night.").log_probability
    assert likely > predictor.score("pipe his at old lit the man night.").log_probability + 5


def test_a_cloze_score_says_that_it_is_of_another_kind(runs: dict[str, Path]) -> None:
    assert throughtime.load(runs["cloze"]).score("The old man lit his pipe.").two_sided


def test_unknown_words_are_named_and_do_not_stop_it(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    assert predictor.unknown_words("The zyzzyva lit ___ pipe.") == ("zyzzyva",)
    assert predictor.next("The zyzzyva lit his")
    assert predictor.score("The zyzzyva").unknown == ("zyzzyva",)


def test_mixtures_are_distributions(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    text = "The old man lit his"
    weights = {"ngram": 0.3, "cache": 0.2, "continuous_cache": 0.1}
    parts = {name: dict(predictor.next(text, top=10_000, **{name: 1.0})) for name in weights}
    network = dict(predictor.next(text, top=10_000))
    for word, share in predictor.next(text, top=10_000, **weights):
        counted = sum(weight * parts[name].get(word, 0.0) for name, weight in weights.items())
        assert share == pytest.approx(0.4 * network.get(word, 0.0) + counted, abs=1e-6)
    assert set(parts["cache"]) <= set(text.split())
    assert set(parts["continuous_cache"]) == set(parts["cache"])
    assert predictor.next("", continuous_cache=0.5)


@pytest.mark.parametrize(
    ("model", "ask", "words"),
    [
        ("cloze", lambda predictor: predictor.next("The old"), "a cloze model has no next word"),
        ("recurrent", lambda predictor: predictor.fill("no blank here"), "the sentence has no blank"),
        ("recurrent", lambda predictor: predictor.next("a ___ b"), "has a blank"),
        ("recurrent", lambda predictor: predictor.score("a ___ b"), "has no probability"),
        ("recurrent", lambda predictor: predictor.score("  "), "no word to score"),
        ("recurrent", lambda predictor: predictor.next("a", ngram=0.7, cache=0.7), "must be in"),
    ],
)
def test_what_cannot_be_answered_is_said(runs: dict[str, Path], model: str, ask: object, words: str) -> None:
    assert callable(ask)
    with pytest.raises(InputError, match=words):
        ask(throughtime.load(runs[model]))


def test_no_words_are_no_answer(runs: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match="top must be at least 1"):
        throughtime.load(runs["recurrent"]).next("The", top=0)


@pytest.mark.parametrize(
    "sentence", ["שלום ___ עולם", "cafe\u0301 ___ 🙂🏽", "x" * 5000 + " ___", "___", "\u200f ___ \ufeff"]
)
def test_any_script_is_ordinary_input(runs: dict[str, Path], sentence: str) -> None:
    for path in runs.values():
        guesses = throughtime.load(path).fill(sentence, top=3)
        assert len(guesses) == 3
        assert all(math.isfinite(share) for _, share in guesses)


def test_sentences_in_a_text_are_separated(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    tokens = predictor.tokens("The old man lit his pipe. My sister ___ the lamp.")
    ends = [index for index, token in enumerate(tokens) if token == "</s>"]
    assert ends == [7]
    assert tokens[-1] == "."


def test_more_underscores_are_one_blank(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    assert predictor.tokens("The _____ man lit____his __ pipe") == [
        *("The", "___", "man", "lit", "___", "his", "_", "_", "pipe"),
    ]


def test_a_run_without_a_checkpoint_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text((runs["recurrent"] / "recipe.toml").read_text(encoding="utf-8"))
    with pytest.raises(RunError, match="has no checkpoint yet"):
        throughtime.load(tmp_path)


def test_predictions_do_not_depend_on_what_was_asked_before(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    answers = [predictor.next("My sister"), predictor.fill("A ___ woman"), predictor.next("My sister")]
    assert answers[0] == answers[2]
    assert NEXT in predictor.model.heads
    assert len(list(itertools.chain(*answers))) == 15
