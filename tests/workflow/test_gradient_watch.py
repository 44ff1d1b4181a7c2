"""The gradient through time is seen while a network trains, and nothing changes for it."""

from __future__ import annotations

import math
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import throughtime
from throughtime.errors import Interrupted
from throughtime.measurement import GradientHistory
from throughtime.storage import RunFolder
from throughtime.text import open_corpus
from throughtime.training import Event, GradientSeen, Processes, Stepped, settle
from throughtime.training import train as train_model
from throughtime.workflow import load, measure_run
from throughtime.workflow.gradient_look import look, looked_at_words
from throughtime.workflow.gradient_watch import HISTORY_FILE, NUM_LOOKS, SHARE, _Pace
from tiny import TINY

CHOICES = TINY | {"num_layers": 2, "dropout": 0.3}


def history(run: Path) -> GradientHistory:
    return GradientHistory.load(run / "records" / HISTORY_FILE)


def test_a_watched_run_is_bit_for_bit_the_same(text_file: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    run = throughtime.train(text_file, out=tmp_path / "watched", steps=12, observers=[seen.append], **CHOICES)
    found = history(run.path)
    assert found.steps[0] == 0
    assert found.steps[-1] == 12
    assert found.window == TINY["window"]
    assert [event.step for event in seen if isinstance(event, GradientSeen)] == list(found.steps)
    alone = RunFolder.create(tmp_path / "alone")
    recipe = throughtime.Recipe.read(run.path / "recipe.toml")
    corpus = open_corpus(run.path / "corpus")
    train_model(alone, recipe, corpus, settle(recipe.compute), Processes())
    watched, unwatched = (folder.checkpoints.newest() for folder in (RunFolder(run.path), alone))
    assert watched is not None
    assert unwatched is not None
    for group, tensors in watched.tensors.items():
        assert all(torch.equal(tensor, unwatched.tensors[group][name]) for name, tensor in tensors.items())


def test_the_last_look_is_what_measuring_the_run_gives(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=6, **TINY | {"hidden_size": 16})
    found = history(run.path)
    exact = measure_run(run.path, steps=len(found.layers[found.top][-1]), sequences=8)
    (curve,) = (curves[-1] for curves in found.layers.values())
    assert all(value is not None for value in curve[:5])
    for seen, measured in zip(curve[1:4], exact.log10_gradient[1:4], strict=True):
        assert seen == pytest.approx(measured, abs=0.5)  # of other positions of the same text


def test_updates_are_measured_beside_their_parameters(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=6, warmup_share=0.0, **TINY)
    ratios = history(run.path).update_ratio
    assert ratios is not None
    told = [value for value in ratios["embedding.weight"] if value is not None]
    assert told
    assert all(0 < value < 1 and math.isfinite(value) for value in told)


def test_a_resumed_run_goes_on_with_its_history(text_file: Path, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        throughtime.train(text_file, out=tmp_path / "run", steps=12, observers=[interrupt], **TINY)
    before = history(tmp_path / "run")
    assert before.steps[-1] <= 5
    throughtime.train(out=tmp_path / "run", resume=True)
    after = history(tmp_path / "run")
    assert after.up_to(5) == before.up_to(5) or after.steps[: len(before.steps)] == before.steps
    assert after.steps[-1] == 12
    assert list(after.steps) == sorted(set(after.steps))


def test_a_two_sided_model_is_looked_at_on_both_sides(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", model="cloze", steps=6, **CHOICES)
    found = history(run.path)
    assert found.steps[-1] == 6
    assert set(found.layers) == {f"{side}.layers.{depth}" for side in ("left", "right") for depth in (0, 1)}
    assert found.top.startswith("left.")
    for curves in found.layers.values():
        assert len(curves[-1]) > 8
        assert curves[-1][0] == 0.0
        assert curves[-1][8] is not None


def test_the_gradient_at_a_blank_is_that_of_the_whole_model(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", model="cloze", steps=4, **TINY)
    model, text = load(run.path).model, open_corpus(run.path / "corpus").valid
    rows = looked_at_words(model, text, 10, 3)
    assert rows is not None
    assert rows.shape == (21, 3)
    found = look(model, rows).modules
    vectors = model.embed(rows).detach().requires_grad_()
    nets = {"left": vectors[:10], "right": vectors[11:].flip(0)}
    last = {side: getattr(model, side)(x, getattr(model, side).initial_state(3))[0][-1] for side, x in nets.items()}
    features = model.join(torch.cat([last["left"], last["right"]], dim=-1))
    scores = torch.nn.functional.linear(features, model.output.weight, model.output.bias)
    loss = torch.nn.functional.cross_entropy(scores, rows[10], reduction="sum")
    expected = torch.autograd.grad(loss, list(last.values()))
    for (name, profile), by_last in zip(found.items(), expected, strict=True):
        assert profile.backward == name.startswith("right")
        assert profile.log10_state_gradient is not None
        at_blank = profile.log10_state_gradient["h"][0 if profile.backward else -1]
        assert at_blank == pytest.approx(by_last.norm(dim=-1).log10().mean().item(), abs=1e-4)


def test_other_models_have_none(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", model="window", steps=2, **TINY)
    assert not (run.path / "records").exists()


def test_looks_lie_evenly_over_the_logarithm_and_within_their_share() -> None:
    def walk(seconds: float, step_seconds: float, steps: int) -> tuple[list[int], float]:
        pace = _Pace(0, steps, step_seconds=step_seconds)
        at, spent = [0], seconds
        pace.looked(0, seconds, None)
        while pace.next_step <= steps:
            at.append(pace.next_step)
            spent += seconds
            pace.looked(at[-1], seconds, at[-1] * step_seconds + spent)
        return at, spent

    cheap, _ = walk(0.01, 1.0, 10_000)
    assert len(cheap) == NUM_LOOKS
    assert cheap[-1] == 10_000
    gaps = [math.log(b / a) for a, b in pairwise(cheap[10:])]
    assert max(gaps) < 2 * min(gaps)
    dear, spent = walk(2.0, 0.5, 1000)
    assert dear[-1] == 1000
    assert 3 <= len(dear) <= 6
    assert spent <= SHARE * 0.5 * 1000 + 2.0
