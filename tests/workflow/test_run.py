"""Runs on disk: what is in them, and how they refuse to be mixed up."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import throughtime
from throughtime.errors import InputError, RecipeError, RunError
from throughtime.storage import RunLock
from tiny import TINY, made_text


def test_a_run_folder_is_readable_and_holds_no_pickle(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=4, **TINY)
    suffixes = {path.suffix for path in run.path.rglob("*") if path.is_file()}
    assert suffixes <= {".toml", ".json", ".jsonl", ".safetensors", ".ids", ".lock"}
    assert json.loads((run.path / "outcome.json").read_text(encoding="utf-8")) == json.loads(json.dumps(run.to_json()))
    origin = json.loads((run.path / "origin.json").read_text(encoding="utf-8"))
    assert len(origin["corpus_hash"]) == 64
    assert throughtime.Recipe.read(run.path / "recipe.toml").plan.hidden_size == TINY["hidden_size"]


def test_names_are_found_for_runs(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [throughtime.train(text_file, steps=1, **TINY).path for _ in range(2)]
    assert [path.as_posix() for path in paths] == ["runs/book", "runs/book-2"]


def test_a_prepared_text_is_taken_by_its_path_or_refused(text_file: Path, tmp_path: Path) -> None:
    first = throughtime.train(text_file, out=tmp_path / "first", steps=1, **TINY)
    again = throughtime.train(out=tmp_path / "again", corpus=str(first.path / "corpus"), steps=1, **TINY)
    assert again.outcome.steps == 1
    with pytest.raises(RunError, match="no-such-text"):
        throughtime.train(out=tmp_path / "none", corpus=str(tmp_path / "no-such-text"), steps=1, **TINY)
    assert not (tmp_path / "none").exists()


def test_a_used_folder_is_refused(text_file: Path, tmp_path: Path) -> None:
    throughtime.train(text_file, out=tmp_path / "run", steps=1, **TINY)
    with pytest.raises(RunError, match="already holds a run: continue it with --resume"):
        throughtime.train(text_file, out=tmp_path / "run", steps=1, **TINY)
    with pytest.raises(RunError, match="not empty"):
        throughtime.train(text_file, out=tmp_path, steps=1, **TINY)


def test_resume_with_another_recipe_shows_the_difference(text_file: Path, tmp_path: Path) -> None:
    throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    with pytest.raises(RecipeError, match=r"\(plan.hidden_size: 8 in the run, 9 now; seed: 0 in the run, 4 now\)"):
        throughtime.train(out=tmp_path / "run", resume=True, hidden_size=9, seed=4)


def test_resume_with_another_text_shows_the_difference(text_file: Path, tmp_path: Path) -> None:
    throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    text_file.write_text(made_text(500, seed=3), encoding="utf-8")
    with pytest.raises(InputError, match=r"the text has changed since the run .* began: .* hash .* then and .* now"):
        throughtime.train(text_file, out=tmp_path / "run", resume=True)
    assert throughtime.train(out=tmp_path / "run", resume=True).outcome.steps == 2


def test_a_corpus_that_was_swapped_is_refused(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=2, **TINY)
    other = tmp_path / "other.txt"
    other.write_text(made_text(400, seed=9), encoding="utf-8")
    swapped = throughtime.train(other, out=tmp_path / "other", steps=1, **TINY)
    for path in (swapped.path / "corpus").iterdir():
        (run.path / "corpus" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RunError, match="and the run began with"):
        throughtime.train(out=tmp_path / "run", resume=True)


def test_resume_without_a_folder_or_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name its folder with --out"):
        throughtime.train(resume=True)
    with pytest.raises(RunError, match="there is no run at"):
        throughtime.train(out=tmp_path / "none", resume=True)


def test_a_locked_run_is_refused(text_file: Path, tmp_path: Path) -> None:
    run = throughtime.train(text_file, out=tmp_path / "run", steps=1, **TINY)
    with RunLock(run.path), pytest.raises(RunError, match="is in use by process"):
        throughtime.train(out=run.path, resume=True)


def test_a_text_shorter_than_a_window(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("One two three four five six. Seven eight nine ten.\n" * 3, encoding="utf-8")
    with pytest.raises(InputError, match=r"\d+ words.*\d+"):
        throughtime.train(path, out=tmp_path / "run", steps=1, **TINY | {"window": 500})
    assert not (tmp_path / "run" / "corpus").exists()


def test_an_empty_folder_is_used_and_left_empty_by_a_mistake(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError):
        throughtime.train(tmp_path / "none.txt", out=out, steps=1, **TINY)
    assert list(out.iterdir()) == []
    assert throughtime.train(text_file, out=out, steps=1, **TINY).path == out


def test_a_disk_that_is_full_before_the_text_is_read_leaves_nothing(
    text_file: Path, tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    with largest_file(3000), pytest.raises(RunError, match=r"too large while writing .*corpus: free some"):
        throughtime.train(text_file, out=tmp_path / "run", steps=1, **TINY)
    assert list(tmp_path.iterdir()) == [text_file]


def test_a_damaged_newest_checkpoint_is_named_and_passed_over(text_file: Path, tmp_path: Path) -> None:
    from throughtime.training import Event, Started

    run = throughtime.train(text_file, out=tmp_path / "run", epochs=1, **TINY)
    newest = sorted((run.path / "checkpoints").iterdir())[-1]
    (newest / "model.safetensors").write_bytes(b"damage")
    seen: list[Event] = []
    again = throughtime.train(out=run.path, resume=True, observers=[seen.append])
    started = next(event for event in seen if isinstance(event, Started))
    assert started.skipped_checkpoints[0][0] == newest.name
    assert started.first_step < again.outcome.steps == run.outcome.steps


def test_compressed_text_and_several_files_train(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(made_text(200), encoding="utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write(made_text(200, seed=1))
    run = throughtime.train(tmp_path / "*.txt*", out=tmp_path / "run", steps=2, **TINY)
    assert run.outcome.steps == 2


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text here")
def test_a_file_whose_name_is_not_utf_8_is_a_text_like_any_other(text_file: Path, tmp_path: Path) -> None:
    text = text_file.rename(tmp_path / os.fsdecode(b"caf\xe9.txt"))
    run = throughtime.train(text, out=tmp_path / os.fsdecode(b"\xe9"), steps=2, **TINY)
    assert throughtime.train(text, out=run.path, resume=True).outcome.steps == 2


def test_a_choice_that_the_model_has_no_use_for_is_refused(text_file: Path) -> None:
    with pytest.raises(RecipeError, match="a window model has no use for 'cell'"):
        throughtime.train(text_file, model="window", cell="gru")
    with pytest.raises(RecipeError, match="a cloze model has no use for 'context_words'"):
        throughtime.train(text_file, model="cloze", context_words=3)


def test_a_misspelt_choice_offers_the_nearest(text_file: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'hidden_size'"):
        throughtime.train(text_file, hiden_size=3)
    with pytest.raises(RecipeError, match="did you mean 'lstm'"):
        throughtime.train(text_file, cell="lstn")
