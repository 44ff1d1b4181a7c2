"""Why a word was predicted: gradient times input against numbers, leaving out against asking again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import throughtime
from throughtime.errors import InputError
from throughtime.workflow import explain
from throughtime.workflow.explanation import influences

NEXT_TEXT, BLANK_TEXT = "The old man lit his", "The old man ___ his pipe at night."


def scaled(predictor: Any, ids: np.ndarray, blank: int | None, answer: int, word: int, factor: float) -> float:
    """The log probability of the answer with one word's vector scaled, wherever it is looked up."""

    def scale(_: Any, looked_up: Any, vectors: torch.Tensor) -> torch.Tensor:
        return torch.where((looked_up[0] == word).unsqueeze(-1), vectors * factor, vectors)

    handle = predictor.model.embedding.register_forward_hook(scale)
    try:
        with torch.no_grad():
            return float(predictor.distribution(ids, blank)[answer])
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("model", "text"), [("recurrent", NEXT_TEXT), ("recurrent", BLANK_TEXT), ("cloze", BLANK_TEXT)]
)
def test_gradient_times_input_is_the_slope(runs: dict[str, Path], model: str, text: str) -> None:
    predictor = throughtime.load(runs[model])
    predictor.model.double()
    tokens = predictor.tokens(text)
    ids = predictor.vocabulary.encode(tokens)
    blank = tokens.index("___") if "___" in tokens else None
    answer = int(predictor.vocabulary.encode(["pipe"])[0])
    if blank is not None:
        answer = int(predictor.vocabulary.encode([predictor.fill(text, 1)[0][0]])[0])
    found = influences(predictor, ids, blank, answer, tokens)
    step = 1e-4
    for place, word in enumerate(found.words):
        if word.gradient_times_input is None or int(ids[place]) == answer:
            continue
        low, high = (scaled(predictor, ids, blank, answer, int(ids[place]), 1 + sign * step) for sign in (-1, 1))
        assert word.gradient_times_input == pytest.approx((high - low) / (2 * step), rel=1e-3, abs=1e-6)


def test_leaving_out_is_asking_again(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    found = explain(predictor, NEXT_TEXT)
    whole = dict(predictor.next(NEXT_TEXT, 400))[found.answer]
    assert found.log_probability_nats == pytest.approx(np.log(whole), abs=1e-5)
    without = dict(predictor.next("The old man lit", 400))[found.answer]
    assert found.words[-1].left_out == pytest.approx(np.log(whole) - np.log(without), abs=1e-4)
    assert found.agreement is not None
    assert -1 <= found.agreement <= 1


@pytest.mark.parametrize("model", ["recurrent", "window", "cloze"])
def test_every_model_explains_a_blank(runs: dict[str, Path], model: str) -> None:
    predictor = throughtime.load(runs[model])
    found = explain(predictor, BLANK_TEXT)
    assert found.blank == 3
    assert found.answer == predictor.fill(BLANK_TEXT, 1)[0][0]
    assert found.words[3].gradient_times_input is None
    assert found.words[3].left_out is None
    assert found.words[4].word == "his"
    assert found.words[4].gradient_times_input is not None
    assert {"answer", "blank", "words", "agreement"} <= set(found.to_json())


def test_what_cannot_be_explained_says_so(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["recurrent"])
    with pytest.raises(InputError, match="for one blank, and the sentence has 2"):
        explain(predictor, "The ___ man ___ his pipe.")
    with pytest.raises(InputError, match="no words that a prediction could depend on"):
        explain(predictor, "___")
