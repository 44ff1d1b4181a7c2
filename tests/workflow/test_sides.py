"""Either half of a two-sided network gives what the whole of it gives at the same blanks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import throughtime
from throughtime.errors import InputError, RecipeError
from throughtime.measurement import measure
from throughtime.model import BLANK, ClozePredictor
from throughtime.workflow.horizons import spread_words
from throughtime.workflow.sides import sides_of

STEPS, SEQUENCES = 12, 5


def test_both_sides_are_the_network_itself(runs: dict[str, Path]) -> None:
    predictor = throughtime.load(runs["cloze"])
    model = predictor.model
    assert isinstance(model, ClozePredictor)
    before, behind = sides_of(runs["cloze"], predictor, STEPS, SEQUENCES).values()
    words = spread_words(runs["cloze"], predictor, STEPS + model.after, SEQUENCES)
    with torch.no_grad():
        whole, _ = model.features(words, 1, len(words) - 1, model.initial_state(SEQUENCES))
        for side, features, targets in (
            (before, whole[BLANK][:STEPS], words[1 : STEPS + 1]),
            (behind, whole[BLANK].flip(0)[:STEPS], words.flip(0)[1 : STEPS + 1]),
        ):
            assert torch.equal(side.targets, targets)
            torch.testing.assert_close(side.model(*side.inputs), features)
            wanted = -model.output.log_probabilities(features.flatten(0, 1)).view(*targets.shape, -1)
            losses = side.loss(features, targets)
            torch.testing.assert_close(losses, wanted.gather(2, targets.unsqueeze(2)).squeeze(2))


def test_the_gradient_of_a_side_is_by_its_own_states(runs: dict[str, Path]) -> None:
    for side in sides_of(runs["cloze"], throughtime.load(runs["cloze"]), STEPS, SEQUENCES).values():
        found = measure(side.model, side.inputs, side.targets, side.loss, time_dim=0)
        assert list(found.modules) == ["stack.layers.0"]
        assert found.log10_gradient[0] == 0
        inputs, targets = side.sequences(slice(2))
        assert [part.size(1) for part in (*inputs, targets)] == [2, 2, 2]


def test_a_network_from_left_to_right_has_one_side(runs: dict[str, Path]) -> None:
    (side,) = sides_of(runs["recurrent"], throughtime.load(runs["recurrent"]), STEPS, SEQUENCES).values()
    assert torch.equal(side.inputs[1:], side.targets[:-1])


def test_what_has_no_side(runs: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match="not recurrent"):
        sides_of(runs["window"], throughtime.load(runs["window"]), STEPS, SEQUENCES)
    with pytest.raises(InputError, match="needs 100017"):
        sides_of(runs["cloze"], throughtime.load(runs["cloze"]), 100_000, SEQUENCES)
