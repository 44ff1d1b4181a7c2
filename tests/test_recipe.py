"""Recipes read back what they wrote, and refuse what they do not know."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from throughtime.errors import RecipeError
from throughtime.model import ClozePredictor, RecurrentPredictor, WindowPredictor
from throughtime.recipe import MODELS, Budget, Plan, Recipe, build, differences


@given(
    seed=st.integers(0, 2**40),
    dropout=st.floats(0, 0.99),
    minutes=st.floats(1e-3, 1e6),
    model=st.sampled_from(MODELS),
    paths=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=3),
)
def test_toml_round_trip(seed: int, dropout: float, minutes: float, model: str, paths: list[str]) -> None:
    recipe = Recipe().chosen(seed=seed, dropout=dropout, minutes=minutes, model=model, paths=tuple(paths))
    assert Recipe.from_toml(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("seed = 'one'", "'seed' in the recipe must be int, not str"),
        ("sead = 1", "no entry 'sead': did you mean 'seed'"),
        ("[plan]\nhiden_size = 3", "no entry 'plan.hiden_size': did you mean 'hidden_size'"),
        ("[plan]\nhidden_size = 0", "plan.hidden_size must be at least 1"),
        ("[plan]\nlearning_rate = nan", "plan.learning_rate must be above 0"),
        ("[plan]\nlearning_rate = inf", "plan.learning_rate must be a number, not infinity"),
        ("model = 'recurent'", "unknown model 'recurent': did you mean 'recurrent'"),
        ("[budget]\nminutes = 1.0\nsteps = 3", "either minutes, or epochs, or steps"),
        ("seed = ", "no TOML"),
    ],
)
def test_what_is_wrong_is_named(toml: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Recipe.from_toml(toml)


def test_chosen_replaces_entries_wherever_they_stand() -> None:
    recipe = Recipe().chosen(cell="gru", lower=True, threads=2, seed=7, steps=10)
    assert (recipe.plan.cell, recipe.text.lower, recipe.compute.threads, recipe.seed) == ("gru", True, 2, 7)
    assert recipe.budget == Budget(steps=10)


def test_differences_name_every_entry() -> None:
    one, other = Recipe(), Recipe(plan=Plan(cell="gru"), seed=1)
    assert differences(one, other) == ["plan.cell: lstm in the run, gru now", "seed: 0 in the run, 1 now"]
    assert differences(one, one) == []


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"minutes": math.inf},
        {"epochs": math.nan},
        {"minutes": -1.0, "epochs": 2.0},
        {"steps": 3, "minutes": math.nan},
    ],
)
def test_a_budget_is_one_number_above_0(choices: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="either minutes, or epochs, or steps, a number above 0"):
        Budget(**choices)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("recurrent", RecurrentPredictor), ("window", WindowPredictor), ("cloze", ClozePredictor)],
)
def test_build_makes_the_model_that_is_named(model: str, kind: type) -> None:
    recipe = Recipe().chosen(model=model, hidden_size=6, embedding_size=4, num_layers=2)
    made = build(recipe, torch.ones(20), matmul_dtype=torch.float32)
    assert isinstance(made, kind)
    assert made.embedding.weight.shape == (20, 4)
