"""The commands `why` and `bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from throughtime.cli.main import run

DOCS = Path(__file__).parents[2] / "docs"


def test_why_shows_what_is_stored_and_writes_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "why.md"
    assert run(["why", "--stored", str(DOCS / "why.json"), "--markdown", str(page)]) == 0
    told = capsys.readouterr().out
    assert told.count("?\n") == 8
    assert "\x1b" not in told
    assert "10^-301" in told
    assert page.read_text(encoding="utf-8") == (DOCS / "why.md").read_text(encoding="utf-8")


def test_why_prints_json_that_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["why", "--stored", str(DOCS / "why.json"), "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told) == json.loads((DOCS / "why.json").read_text(encoding="utf-8"))
    (tmp_path / "printed.json").write_text(told, encoding="utf-8")
    assert run(["why", "--stored", str(tmp_path / "printed.json")]) == 0


def test_why_refuses_a_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"kind": "need", "schema_version": 1}')
    assert run(["why", "--stored", str(other)]) == 2
    assert "holds a record of kind 'need': expected 'why'" in capsys.readouterr().err


def test_bench_prints_a_table_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    asked = ["bench", "--task", "parity", "--lag", "6", "--cells", "elman", "torch-rnn", "--minutes", "0.003"]
    assert run([*asked, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "parity at 6, elman, seed 0: " in told.err
    assert "cell" in told.out
    assert "longest lag that every seed of torch-rnn solves within 0.003 minutes: none" in told.out
    assert run([*asked, "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["cell"] for row in rows] == ["elman", "torch-rnn"]
    assert len(out.read_text().splitlines()) == 2
    assert run([*asked[:-4], "elman", *asked[-2:], "--seed", "7", "--out", str(out), "--json"]) == 0
    assert [row["seed"] for row in json.loads(capsys.readouterr().out)] == [7]


def test_bench_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--task", "coppy"]) == 2
    assert capsys.readouterr().err.startswith("throughtime: unknown task 'coppy': did you mean")
