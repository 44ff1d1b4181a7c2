"""The loop: what it logs, when it stops, and that nobody who watches changes a number."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

import throughtime
from throughtime.errors import Interrupted, NonFiniteError, RunError
from throughtime.storage import MetricsFile, RunFolder
from throughtime.training import Evaluated, Event, Saved, Started, Stepped, Stopped, loop
from tiny import TINY


def weights(path: Path) -> dict[str, torch.Tensor]:
    newest = RunFolder(path).checkpoints.newest()
    assert newest is not None
    return newest.tensors["model"]


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_every_step_is_logged_with_its_gradient_norm(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=12, clip=0.4, **TINY)
    lines = MetricsFile(run.path / "metrics.jsonl").read()
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 13))
    for line in steps:
        assert math.isfinite(line["loss_nats"])
        assert line["clipped_gradient_norm"] == min(line["gradient_norm"], 0.4)
        assert line["learning_rate"] > 0
    assert any(line["gradient_norm"] > 0.4 for line in steps)
    evaluations = [line for line in lines if line["event"] == "evaluation"]
    assert evaluations[-1]["step"] == 12
    assert evaluations[-1]["context_carried"] is True


def test_it_learns(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(
        text_file, out=tmp_path / "run", epochs=6, **TINY | {"hidden_size": 24, "learning_rate": 0.02}
    )
    vocabulary = len(run.predictor().vocabulary)
    assert run.test["next"].perplexity < vocabulary / 4


def test_observers_change_nothing(text_file: Path, tmp_path: Path) -> None:
    events: list[Event] = []

    def disturb(event: Event) -> None:
        events.append(event)
        torch.rand(3)

    throughtime.train(text_file, out=tmp_path / "alone", steps=9, dropout=0.3, sample_size=5, **TINY)
    throughtime.train(
        text_file, out=tmp_path / "watched", steps=9, dropout=0.3, sample_size=5, observers=[disturb], **TINY
    )
    assert same(tmp_path / "alone", tmp_path / "watched")
    kinds = [type(event) for event in events]
    assert kinds[0] is Started
    assert kinds[-1] is Stopped
    assert kinds.count(Stepped) == 9
    assert Evaluated in kinds
    assert Saved in kinds


def test_the_callers_random_state_is_left_alone(text_file: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    throughtime.train(text_file, out=tmp_path / "run", steps=3, **TINY)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_and_repeat(text_file: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        throughtime.train(text_file, out=tmp_path / name, steps=4, seed=seed, **TINY)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_it_stops_early_when_nothing_gets_better(text_file: Path, tmp_path: Path) -> None:
    choices: dict[str, Any] = TINY | {"learning_rate": 0.4, "clip": 100.0, "weight_decay": 0.0}
    run = throughtime.train(text_file, out=tmp_path / "run", epochs=10, patience=2, **choices)
    assert run.outcome.reason == "early"
    evaluations = [line for line in MetricsFile(run.path / "metrics.jsonl").read() if line["event"] == "evaluation"]
    assert [line["best"] for line in evaluations[-2:]] == [False, False]
    assert run.outcome.best_step < run.outcome.steps
    again = throughtime.train(out=run.path, resume=True)
    assert (again.outcome.steps, again.outcome.reason) == (run.outcome.steps, "early")
    assert again.test == run.test


def test_minutes_become_steps_before_the_first(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", minutes=0.02, **TINY)
    schedule = json.loads((run.path / "schedule.json").read_text(encoding="utf-8"))
    assert schedule["steps"] == run.outcome.steps
    assert schedule["step_seconds"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(text_file: Path, tmp_path: Path, number: signal.Signals) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="after step 5 of 14") as caught:
        throughtime.train(text_file, out=tmp_path / "run", steps=14, observers=[interrupt], **TINY)
    assert caught.value.exit_code == 128 + number
    resumed = throughtime.train(out=tmp_path / "run", resume=True)
    throughtime.train(text_file, out=tmp_path / "whole", steps=14, **TINY)
    assert resumed.outcome.steps == 14
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_full_disk_stops_the_run_which_goes_on_once_there_is_space(
    text_file: Path, tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    with ExitStack() as full:

        def fill(event: Event) -> None:
            if isinstance(event, Saved):
                full.enter_context(largest_file((tmp_path / "run" / "metrics.jsonl").stat().st_size + 100))

        # Whichever is written first: when the gradient is looked at follows from a clock.
        written = r"(metrics\.jsonl|gradient-history\.json)"
        with pytest.raises(RunError, match=f"too large while writing .*{written}: free some and resume"):
            throughtime.train(text_file, out=tmp_path / "run", epochs=1, observers=[fill], **TINY)
    saved = RunFolder(tmp_path / "run").checkpoints.newest()
    assert saved is not None
    assert not saved.skipped
    resumed = throughtime.train(out=tmp_path / "run", resume=True)
    throughtime.train(text_file, out=tmp_path / "whole", epochs=1, **TINY)
    assert 0 < saved.step < resumed.outcome.steps
    assert same(tmp_path / "run", tmp_path / "whole")


def test_numbers_that_are_not_finite_stop_the_run(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.update

    def spoiled(model: torch.nn.Module, *arguments: Any, step: int, **options: Any) -> Any:
        if step == 100:
            next(model.parameters()).data[0, 0] = torch.nan
        return original(model, *arguments, step=step, **options)

    monkeypatch.setattr(loop, "update", spoiled)
    with pytest.raises(NonFiniteError, match=r"step 100: the weights 'embedding\.weight' are not finite") as caught:
        throughtime.train(text_file, out=tmp_path / "run", epochs=3, **TINY)
    assert caught.value.exit_code not in (0, 2)
    assert not (tmp_path / "run" / "outcome.json").exists()
    newest = RunFolder(tmp_path / "run").checkpoints.newest()
    assert newest is not None
    assert 0 < newest.step < 100
    assert all(torch.isfinite(weight).all() for weight in newest.tensors["model"].values())
