"""Pages of runs that are not as they should be: each says what is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import odd_runs
import throughtime
from throughtime.errors import RunError
from throughtime.reporting import RECORD_FILES
from throughtime.workflow import diagnose_run
from tiny import TINY


def page_of(run: Path, **options: Any) -> str:
    """The text that a reader sees, its entities as they stand."""
    html = throughtime.report(run, **options).read_text(encoding="utf-8")
    return " ".join(re.sub(r"<script>.*?</script>|<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_one_step(text_file: Path, tmp_path: Path) -> None:
    shown = page_of(odd_runs.one_step(text_file, tmp_path / "run"))
    assert "in 1 update" in shown
    assert "after 1 update it reaches" in shown
    assert "1 updates" not in shown
    assert "No diagnosis" in shown


def test_a_killed_run(text_file: Path, tmp_path: Path) -> None:
    shown = page_of(odd_runs.killed(text_file, tmp_path / "run"))
    assert "it has not: its metrics end after 3 updates" in shown
    assert "ended before its first checkpoint" in shown
    assert "has no checkpoint yet" in shown


def test_a_run_that_failed(text_file: Path, tmp_path: Path) -> None:
    assert "it has not" in page_of(odd_runs.failed(text_file, tmp_path / "run"))


def test_losses_that_are_no_numbers(text_file: Path, tmp_path: Path) -> None:
    shown = page_of(odd_runs.not_finite(text_file, tmp_path / "run"), measure=False)
    assert "in 6 updates" in shown  # those whose loss is a number
    assert "nan" not in shown.lower().split()


def test_a_model_without_a_recurrence(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", model="window", steps=2, **TINY)
    shown = page_of(run.path)
    assert "has no recurrence, so there is no gradient through time" in shown
    assert "is not recurrent from left to right" in shown  # no spectrum
    assert "A window model has no recurrence, which a diagnosis of a run asks for." in shown
    assert "throughtime diagnose" not in shown
    assert "5-gram" in shown


def test_a_two_sided_model_has_pictures_of_both_sides(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", model="cloze", steps=3, **TINY)
    shown = page_of(run.path)
    assert "Gradient through time, left layer 1" in shown
    assert "Gradient through time, right layer 1" in shown
    assert "right layer 1: f" in shown  # its saturation
    assert f"throughtime diagnose {run.path}" in shown
    assert "5-gram" in shown
    diagnose_run(run.path)
    assert "Before the blank: need" in page_of(run.path)


def test_damaged_and_old_records_are_named(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    (run.path / "outcome.json").write_text("{")
    (run.path / RECORD_FILES["diagnosis"]).write_text('{"kind": "diagnosis", "schema_version": 0}')
    (run.path / "metrics.jsonl").write_text("no JSON\n")
    shown = page_of(run.path, measure=False)
    assert "schema version 0" in shown
    assert "line 1 is damaged" in shown


def length(html: str) -> int:
    """Of a page, without the numbers of its models, which Bokeh counts through a whole process."""
    return len(re.sub(r"\bp\d+\b", "p", html))


def test_what_was_measured_is_kept_and_read_again(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    first = throughtime.report(run.path).read_text(encoding="utf-8")
    for name in ("spectrum", "text", "history"):
        assert (run.path / RECORD_FILES[name]).exists()
    again = throughtime.report(run.path, out=tmp_path / "again.html", measure=False)
    assert length(again.read_text(encoding="utf-8")) == pytest.approx(length(first), abs=200)


def test_a_trial_beside_the_run_is_shown(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    assert "orthogonal start" not in page_of(run.path, measure=False)
    (run.path / "treatment").mkdir()
    shutil.copy(Path(__file__).parent / "records" / "treatment.json", run.path / RECORD_FILES["treatment"])
    shown = page_of(run.path, measure=False)
    assert "with &#x27;orthogonal start&#x27; 4 of 5." in shown
    assert "on fresh seeds (p = 0.04)" in shown


def test_the_page_of_a_trial(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "records" / "treatment.json", tmp_path)
    origin = {"torch": "2.0", "machine": "a machine", "command": ["/usr/bin/throughtime", "treat", "a run"]}
    (tmp_path / "origin.json").write_text(json.dumps(origin))
    shown = page_of(tmp_path / "treatment.json")
    assert "Better than the baseline with" in shown
    assert "orthogonal start, as plain PyTorch" in shown.replace("Orthogonal", "orthogonal")
    assert "throughtime treat &#x27;a run&#x27;" in shown
    assert "a machine" in shown
    assert "10, 11" in shown  # its fresh seeds


def test_how_it_was_made(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    shown = page_of(run.path, measure=False)
    origin = json.loads((run.path / "origin.json").read_text())
    for told in (origin["corpus_hash"], f"torch {origin['torch']}", origin["machine"], "hidden_size = 8"):
        assert told in shown
    assert "To make it again" in shown


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run at"):
        throughtime.report(tmp_path / "none")
