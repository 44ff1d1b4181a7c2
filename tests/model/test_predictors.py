"""What each predictor may read: proved by gradients, for every head of every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from throughtime.cell import cells
from throughtime.model import (
    BLANK,
    NEXT,
    ClozePredictor,
    Head,
    RecurrentPredictor,
    Sizes,
    WindowPredictor,
    WordPredictor,
)
from throughtime.model.dropout import LockedDropout

V, S, B = 30, 24, 3
FIRST, LAST = 6, 14


SIZES = Sizes(embedding_size=5, hidden_size=7)


def recurrent(cell: str = "lstm") -> WordPredictor:
    return RecurrentPredictor(torch.ones(V), replace(SIZES, num_layers=2), cell=cell)


def cloze() -> WordPredictor:
    return ClozePredictor(torch.ones(V), SIZES, cell="gru")


def window() -> WordPredictor:
    return WindowPredictor(torch.ones(V), SIZES, words=5)


MODELS: dict[str, Callable[[], WordPredictor]] = {"window": window, "cloze": cloze}
MODELS |= {f"recurrent-{info.name}": partial(recurrent, info.name) for info in cells()}


def influence(model: WordPredictor, head: Head) -> Tensor:
    """(targets, S): whether the features of each target depend on the word of each row."""
    ids = torch.arange(S)[:, None].expand(S, B)
    features, _ = model.features(ids, FIRST, LAST, model.initial_state(B))
    rows = []
    for target in range(LAST - FIRST):
        total = features[head][target].sum()
        (gradient,) = torch.autograd.grad(total, model.embedding.weight, retain_graph=True)
        rows.append(gradient[:S].abs().sum(1) > 0)
    return torch.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_no_head_ever_reads_its_target(name: str) -> None:
    model = MODELS[name]()
    for head in model.heads:
        seen = influence(model, head)
        for target, row in enumerate(seen):
            assert not row[FIRST + target]
            assert row[FIRST + target - 1]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "cloze"])
def test_the_next_word_reads_nothing_behind_it(name: str) -> None:
    for target, row in enumerate(influence(MODELS[name](), NEXT)):
        assert not row[FIRST + target :].any()


@pytest.mark.parametrize("make", [cloze, window])
def test_a_blank_reads_both_sides(make: Callable[[], WordPredictor]) -> None:
    for target, row in enumerate(influence(make(), BLANK)):
        assert row[FIRST + target + 1]
        assert row[FIRST + target - 1]


def test_a_window_reads_exactly_its_words() -> None:
    model = window()
    for target, row in enumerate(influence(model, NEXT)):
        at = FIRST + target
        assert torch.nonzero(row).flatten().tolist() == list(range(at - 5, at))
    for target, row in enumerate(influence(model, BLANK)):
        at = FIRST + target
        assert torch.nonzero(row).flatten().tolist() == [*range(at - 5, at), *range(at + 1, at + 6)]


def test_a_cloze_model_reads_from_end_to_end() -> None:
    for target, row in enumerate(influence(cloze(), BLANK)):
        expected = [row_number for row_number in range(FIRST - 1, S) if row_number != FIRST + target]
        assert torch.nonzero(row).flatten().tolist() == expected


@pytest.mark.parametrize("cell", [info.name for info in cells()])
def test_a_carried_state_makes_windows_one_text(cell: str) -> None:
    model = recurrent(cell).double().eval().requires_grad_(False)
    ids = torch.randint(V, (S, B))
    whole, end = model.features(ids, 1, S, model.initial_state(B))
    first, state = model.features(ids[:10], 1, 10, model.initial_state(B))
    second, last = model.features(ids[9:], 1, S - 9, state)
    joined = torch.cat([first[NEXT], second[NEXT]])
    assert float((joined - whole[NEXT]).abs().max()) < 1e-12
    for one, other in zip(end, last, strict=True):
        assert float((one - other).abs().max()) < 1e-12


def test_training_returns_a_detached_state_and_a_loss_in_nats() -> None:
    model = recurrent()
    loss, state = model(torch.randint(V, (S, B)), 1, S, model.initial_state(B))
    assert float(loss.detach()) == pytest.approx(torch.log(torch.tensor(float(V))).item(), abs=0.5)
    assert state
    assert not any(part.requires_grad for part in state)


def test_weights_are_tied() -> None:
    for make in MODELS.values():
        model = make()
        assert model.output.weight is model.embedding.weight


def test_dropout_is_constant_in_time() -> None:
    dropout = LockedDropout(0.5)
    dropped = dropout(torch.ones(20, 2, 50)) == 0
    assert (dropped == dropped[:1]).all()
    assert 0 < dropped[0].float().mean() < 1
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert torch.equal(dropout.eval()(torch.ones(3, 2, 5)), torch.ones(3, 2, 5))


def test_dropout_keeps_the_expectation() -> None:
    mean = LockedDropout(0.3)(torch.ones(1, 200, 200)).mean()
    assert float(mean) == pytest.approx(1.0, abs=0.02)
