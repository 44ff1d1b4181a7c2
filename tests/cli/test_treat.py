"""`throughtime treat` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from throughtime.cli.main import run

TOYS = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A present folder with the factories."""
    (tmp_path / "ward_of_mine.py").write_text(
        "from trial.toys import Toy\n\n\ndef ill():\n    return Toy()\n\n\ndef well():\n    return Toy(rate=0.05)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_cure_is_shown_and_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["treat", "ward_of_mine:ill", "--jobs", "1"]
    assert run(command) == 0
    shown = capsys.readouterr()
    assert "<- cured (p = 0.00098)" in shown.out
    assert "runs/treat-ward_of_mine-ill/treatment.py" in shown.out
    assert "seed 0, as it is" in shown.err
    page = folder / "runs" / "treat-ward_of_mine-ill" / "report.html"
    assert f"report: {page.relative_to(folder)}" in shown.out
    assert "learned with 15 of 15 seeds" in page.read_text(encoding="utf-8")
    assert run([*command, "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out)["cured"] is True
    assert "trainings are done already" in again.err
    assert "seed 0, as it is" not in again.err


def test_the_exit_code_tells_what_is_proven(folder: Path) -> None:
    assert run(["treat", "ward_of_mine:well", "--jobs", "1"]) == 0
    assert run(["treat", "ward_of_mine:ill", "--jobs", "1", "--remedy", "clip-norm", "--out", "x"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["ward_of_mine:ill", "--steps", "3"], "steps are those of a run"),
        (["ward_of_mine:ill", "--remedy", "orthogonal-stat"], "did you mean 'orthogonal-start'"),
        (["ward_of_mine:ill", "--seeds", "2"], "seeds must be at least 5"),
        (["ward_of_mine:ill", "--threads", "2"], "leave one out"),
        (["ward_of_mine:ill", "--device", "cuda"], "leave out --device cuda"),
        (["ward_of_mine:ill", "--budget-seconds", "0.001"], "too small for one arm"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["treat", *arguments, "--jobs", "1"]) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("throughtime: ")
    assert message in last


def test_interrupted_it_keeps_what_is_done(folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import os, signal\nfrom trial.toys import Toy\n\n\n"
        "class Slow(Toy):\n    def build(self, seed):\n"
        "        if seed == 3:\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().build(seed)\n\n\n"
        "def patient():\n    return Slow()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "throughtime", "treat", "slow:patient", "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "the same command goes on from there" in done.stderr
    lines = (folder / "runs" / "treat-slow-patient" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line).get("seed") for line in lines if '"training"' in line] == [0, 1, 2]
