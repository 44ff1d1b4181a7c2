from __future__ import annotations

from pathlib import Path

import pytest

from throughtime.errors import RunError
from throughtime.storage.lock import RunLock
from throughtime.storage.run_folder import RunFolder


def make_run(path: Path) -> RunFolder:
    run = RunFolder.create(path)
    run.recipe_path.write_text('cell = "lstm"\n')
    return run


def test_a_run_is_created_and_opened(tmp_path):
    created = make_run(tmp_path / "runs" / "book")
    opened = RunFolder.open(tmp_path / "runs" / "book")
    assert opened == created
    inside = [opened.recipe_path, opened.metrics_path, opened.corpus_path, opened.records_path, opened.outcome_path]
    assert [path.name for path in inside] == ["recipe.toml", "metrics.jsonl", "corpus", "records", "outcome.json"]
    assert {path.parent for path in (*inside, opened.checkpoints.folder)} == {opened.path}


def test_a_run_may_be_created_in_an_empty_folder(tmp_path):
    (tmp_path / "book").mkdir()
    make_run(tmp_path / "book")
    assert RunFolder.open(tmp_path / "book").path == tmp_path / "book"


def test_what_a_process_killed_at_once_left_does_not_count(tmp_path):
    (tmp_path / ".tmp-1").write_bytes(b"")
    with RunLock(tmp_path):
        RunFolder.create(tmp_path)


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    make_run(tmp_path / "book")
    with pytest.raises(RunError, match="book already holds a run: continue it with --resume, or choose another --out"):
        RunFolder.create(tmp_path / "book")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(
        RunError, match=r"mine is not empty \(it holds thesis\.tex\) and not a run: choose another --out"
    ):
        RunFolder.create(tmp_path / "mine")
    with pytest.raises(RunError, match=r"thesis\.tex is a file: choose another --out"):
        RunFolder.create(tmp_path / "mine" / "thesis.tex")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["book", "mine", "recipe.toml", "thesis.tex"]


def test_a_read_only_parent_is_refused_in_one_line(read_only_folder):
    with pytest.raises(RunError, match=r"cannot write .*book: permission denied; choose a folder") as caught:
        RunFolder.create(read_only_folder / "runs" / "book")
    assert "\n" not in str(caught.value)


def test_an_absent_run_offers_the_nearest(tmp_path):
    make_run(tmp_path / "book")
    make_run(tmp_path / "novels")
    with pytest.raises(RunError, match=r"there is no run at .*boook; among the runs in .*, did you mean 'book'?"):
        RunFolder.open(tmp_path / "boook")
    with pytest.raises(RunError, match=r"there is no run at .*nothing$"):
        RunFolder.open(tmp_path / "book" / "nothing")
    with pytest.raises(RunError, match=r"there is no run at .*here$"):
        RunFolder.open(tmp_path / "not" / "here")


def test_what_is_no_run_is_refused(tmp_path):
    make_run(tmp_path / "runs" / "book")
    with pytest.raises(RunError, match=r"runs is not a run: it holds no recipe\.toml; among .*, choose one of book"):
        RunFolder.open(tmp_path / "runs")
    with pytest.raises(RunError, match=r"recipe\.toml is a file: expected a run folder"):
        RunFolder.open(tmp_path / "runs" / "book" / "recipe.toml")
