"""Cells put to tasks: what is solved, what is not, and rows that outlive a killed process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import throughtime
from throughtime import tasks
from throughtime.errors import RecipeError, RunError
from throughtime.workflow.bench_attempt import attempt, fresh, target_score
from throughtime.workflow.bench_model import num_asked
from throughtime.workflow.bench_run import Bench, Row, read_rows, task_at
from throughtime.workflow.bench_setting import Setting, contenders, setting_for

TINY = {"hidden_size": 16, "batch_size": 8}


def tiny(cell: str, task: tasks.Task) -> Setting:
    return replace(setting_for(cell, task), **TINY)


@pytest.mark.parametrize("cell", contenders())
@pytest.mark.parametrize("name", ["adding", "copying", "parity"])
def test_every_cell_takes_every_task(cell: str, name: str) -> None:
    task = tasks.make(name, length=24)
    found = attempt(task, tiny(cell, task), minutes=1, seed=0, most_steps=2)
    assert found.failed is None
    assert found.steps == 2
    assert not found.solved


@pytest.mark.parametrize("name", [name for name in tasks.names() if "digits" not in name])
def test_every_task_is_taken_at_a_lag(name: str) -> None:
    task = task_at(name, 40)
    found = attempt(task, tiny("gru", task), minutes=1, seed=0, most_steps=2)
    assert (found.failed, found.steps) == (None, 2)


def test_a_curriculum_begins_as_short_as_the_task_allows() -> None:
    shortest = {name: setting_for("lstm", task_at(name, 30)).shortest for name in ("parity", "copying", "n-back")}
    assert shortest == {"parity": 3, "copying": 21, "n-back": 31}


def test_a_parity_is_solved_and_holds_at_other_lengths() -> None:
    task = tasks.Parity(length=12)
    setting = Setting(cell="elman", hidden_size=32, shortest=3)
    found = attempt(task, setting, minutes=1, seed=0, most_steps=600, test_length=64)
    assert found.solved
    assert found.score >= 0.99
    assert found.length == 12
    assert found.steps < 600


def test_a_net_without_a_curriculum_begins_with_whole_sequences() -> None:
    task = tasks.Parity(length=12)
    found = attempt(task, Setting(cell="elman", hidden_size=8), minutes=1, seed=0, most_steps=3)
    assert (found.length, found.solved) == (12, False)


def test_the_same_seed_gives_the_same_attempt() -> None:
    task = tasks.make("adding", length=10)
    found = [attempt(task, tiny("lstm", task), minutes=1, seed=seed, most_steps=5).score for seed in (3, 3, 4)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_numbers_that_are_not_finite_end_an_attempt() -> None:
    task = tasks.make("adding", length=10)
    network = fresh(task, tiny("elman", task), 0)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    found = attempt(task, tiny("elman", task), minutes=1, seed=0, most_steps=5, network=network)
    assert found.failed is not None
    assert found.failed.startswith("step 1: loss nan")


def test_the_callers_random_numbers_stay_as_they_are() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task = tasks.make("copying", length=24)
    attempt(task, tiny("lru", task), minutes=1, seed=1, most_steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_asked_lies_at_the_end() -> None:
    copying, adding, tracking = (tasks.make(name) for name in ("copying", "adding", "permutations"))
    assert num_asked(copying, copying.batch(2, seed=0).targets) == 10
    assert num_asked(adding, adding.batch(2, seed=0).targets) is None
    assert num_asked(tracking, tracking.batch(2, seed=0).targets) == tracking.length


def test_a_target_of_adding_is_its_mean_squared_error() -> None:
    task = tasks.Adding()
    assert (1 - target_score(task)) * task.chance.loss == pytest.approx(0.01)


def test_starts_follow_from_the_lag() -> None:
    task = task_at("copy", 500)
    assert setting_for("mingru", task).options == {"init": "chrono", "max_lag": 510}
    assert setting_for("gated-deltanet", task_at("parity", 40)).options["max_lag"] == 4000
    assert setting_for("mingru", task).words == "init chrono, max_lag 510; from 21 steps on"
    ring = setting_for("lru", task).options
    assert (ring["r_min"] ** 510, ring["r_max"] ** 510) == pytest.approx((0.1, 0.99))
    assert setting_for("torch-lstm", task) == Setting(cell="torch-lstm")


def test_a_bench_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    told: list[Row] = []
    asked = {"cells": ["elman", "torch-rnn"], "minutes": 0.002, "seeds": 2, "out": out}
    first = throughtime.bench("parity", 6, **asked, tell=told.append)
    assert [(row.cell, row.seed) for row in told] == [("elman", 0), ("elman", 1), ("torch-rnn", 0), ("torch-rnn", 1)]
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:20])  # killed while it wrote
    second = throughtime.bench("parity", 6, **asked)
    assert second.rows[:3] == first.rows[:3]
    assert len(read_rows(out)) == 4


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text('{"loss": 1.0}\n')
    with pytest.raises(RunError, match="holds no rows of a bench"):
        throughtime.bench("parity", 6, out=out)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"task": "copi"}, "did you mean"),
        ({"cells": ["lstn"]}, "did you mean 'lstm'"),
        ({"minutes": 0}, "minutes must be above 0"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"lag": 0}, "lag must be at least 1"),
    ],
)
def test_mistakes_are_told(choices: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        throughtime.bench(**({"task": "copy", "lag": 20} | choices))


def test_the_longest_lag_is_that_of_all_seeds() -> None:
    task = tasks.Parity(length=6)
    solved = attempt(task, Setting(cell="elman", hidden_size=32, shortest=3), minutes=1, seed=0, most_steps=600)
    assert solved.solved
    rows = [Row("parity", lag, "elman", seed, 1.0, None, "", solved) for lag in (6, 8) for seed in (0, 1)]
    failed = replace(solved, solved=False)
    assert Bench(tuple(rows)).longest("elman", 1.0) == 8
    assert Bench((*rows[:3], replace(rows[3], attempt=failed))).longest("elman", 1.0) == 6
    assert Bench(tuple(rows)).longest("elman", 1e-9) is None
