"""The comparison asks everyone the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import throughtime
from throughtime.cell import cells
from throughtime.errors import RecipeError, RunError
from throughtime.text import open_corpus
from throughtime.workflow import gradient_watch
from throughtime.workflow.comparison import contestants
from throughtime.workflow.positions import Hits, choose_positions, sentence_around
from tiny import TINY, made_text


def test_everyone_is_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_watch, "ALLOWANCE_SECONDS", 0.0)  # most of a training as short as these
    text = tmp_path / "book.txt"
    text.write_text(made_text(800), encoding="utf-8")
    choices = TINY | {"hidden_size": 16, "learning_rate": 0.02}
    found = throughtime.compare(text, out=tmp_path / "all", epochs=1, **choices)
    assert [row.name for row in found.rows] == ["5-gram", "window", *(info.name for info in cells()), "cloze"]
    for row in found.rows:
        assert (row.perplexity is None) == (row.name == "cloze") == (row.next_word is None)
        assert row.blank.num_positions == found.rows[0].blank.num_positions
        assert row.blank.top5 >= row.blank.top1 >= 0 < row.blank.top5
        assert row.words_per_second > 0
    assert len(found.filled) == 10
    for sentence in found.filled:
        assert sentence.sentence.count("___") == 1
        assert sentence.guesses.keys() == {row.name for row in found.rows}
    stored = json.loads((found.path / "comparison.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(found.to_json()))
    hashes = {open_corpus(row.path / "corpus").hash for row in found.rows if row.path is not None}
    assert hashes == {open_corpus(found.path / "corpus").hash}
    with pytest.raises(RunError, match="not empty"):
        throughtime.compare(text, out=tmp_path / "all", epochs=1, **choices)


def test_contestants_by_name() -> None:
    assert contestants(["gru", "cloze"]) == [
        ("gru", {"model": "recurrent", "cell": "gru"}),
        ("cloze", {"model": "cloze"}),
    ]
    with pytest.raises(RecipeError, match="unknown predictor 'lstn': did you mean 'lstm'"):
        contestants(["lstn"])
    with pytest.raises(RecipeError, match="nothing to compare"):
        contestants([])


def test_positions_are_alphabetic_known_and_repeatable(runs: dict[str, Path]) -> None:
    corpus = open_corpus(runs["recurrent"] / "corpus")
    chosen = choose_positions(corpus.test, corpus.vocabulary, 50, seed=3)
    assert np.array_equal(chosen, choose_positions(corpus.test, corpus.vocabulary, 50, seed=3))
    assert len(set(chosen.tolist())) == 50
    assert all(corpus.vocabulary.words[corpus.test[position]].isalpha() for position in chosen)
    for position in chosen:
        sentence, at = sentence_around(corpus.test, int(position), corpus.vocabulary)
        assert sentence[at] == corpus.test[position]
        assert sentence[-1] in corpus.vocabulary.end_ids
        assert not np.isin(sentence[:-1], corpus.vocabulary.end_ids).any()


def test_hits_are_shares() -> None:
    assert Hits.of(np.array([0, 0, 3, 9])) == Hits(0.5, 0.75, 4)
