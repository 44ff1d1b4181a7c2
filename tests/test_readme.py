"""The README's commands and code, and the demo, run as they stand, at a tiny size."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import throughtime
from commands import SCRIPT, commands, shrunk
from throughtime.cli.main import run
from tiny import made_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

LEFT_OUT = {
    "make demo": "its command is run by `test_the_demo_runs_at_a_tiny_size`",
    "make test": "these are what it runs; `test_a_second_call_installs_nothing_again` calls it with another Python",
}
"""Lines of console blocks that are run elsewhere, and where."""
LESS = {"throughtime why": ["--stored", str(ROOT / "docs" / "why.json")]}
"""Options that spare a minute of measurements: tests/workflow/test_why.py makes them one by one."""


def what_a_reader_has() -> dict[str, object]:
    """A model and a loop of a reader's own."""
    model = torch.nn.RNN(3, 8)
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.randn(10, 16, 3)
    targets = torch.ones(10, 16, 8)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets).square().mean(-1)

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(inputs)[0], targets).mean().backward()
            optimizer.step()

    return {"model": model, "optimizer": optimizer, "inputs": inputs, "targets": targets, "loss": loss, "train": train}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(made_text(), encoding="utf-8")
    (tmp_path / "other.txt").write_text(made_text(seed=5), encoding="utf-8")
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setenv("BROWSER", "true")  # the program that does nothing: `report --open` shows no window to who tests
    seen = set()
    assert set(LEFT_OUT) <= set(commands(README))
    for line in commands(README):
        if line in LEFT_OUT:
            continue
        assert line.startswith("throughtime "), f"{line}: run it, or say in LEFT_OUT where it is run"
        # Two steps of training make nothing healthy, and prove nothing.
        wanted = (0, 1) if line.split()[1] in ("diagnose", "treat") else (0,)
        words = [*shrunk(line), *LESS.get(line, [])]
        assert run(words) in wanted, f"{line}\n{capsys.readouterr().err}"
        seen.add(line.split()[1])
    assert seen >= {"train", "predict", "evaluate", "compare", "score", "diagnose", "treat", "bench", "doctor"}
    assert "perplexity" in capsys.readouterr().out


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(made_text(), encoding="utf-8")
    code = blocks("python")
    assert code
    for block in code:
        small = re.sub(r"minutes=\d+", "steps=2, hidden_size=8, embedding_size=8, window=6, num_streams=4", block)
        exec(compile(small, "README.md", "exec"), {"throughtime": throughtime, **what_a_reader_has()})


def test_the_demo_runs_at_a_tiny_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = subprocess.run(
        ["make", "-n", "-C", str(ROOT), "-o", ".venv/.installed", "demo"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in recipe.splitlines() if "throughtime" in line and "compare" in line)
    monkeypatch.chdir(tmp_path)
    assert run(shrunk(line[line.index("throughtime ") :])) == 0
    out = capsys.readouterr().out
    heading = re.search(r"^ *perplexity +context.*\n", out, flags=re.MULTILINE)
    assert heading is not None, out
    table = out[heading.end() :].splitlines()[:5]
    assert [line.split()[0] for line in table] == ["5-gram", "window", "elman", "lstm", "cloze"]
    assert len(re.findall(r"^ ?\d+\. .*___", out, flags=re.MULTILINE)) == 10
    path = re.search(r"throughtime predict (\S+)", out)
    assert path is not None
    assert (tmp_path / path[1]).is_dir()


def test_the_two_commands_of_the_readme_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    assert sys.version_info >= (3, 11)


def test_a_second_call_installs_nothing_again(tmp_path: Path) -> None:
    """With a Python that only says how it was called, in place of gigabytes of packages."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "throughtime"):
        (programs / name).write_text(f'#!/bin/sh\necho "called: {name} $*"\n', encoding="utf-8")
        (programs / name).chmod(0o755)

    def made(target: str) -> list[str]:
        done = subprocess.run(["make", "-s", "-C", str(tmp_path), target], capture_output=True, text=True, check=True)
        return [" ".join(line.split()[1:4]) for line in done.stdout.splitlines() if line.startswith("called: ")]

    install = "python -m pip"
    assert made("demo") == [install, "throughtime compare --only"]
    assert made("test") == [install, "python -m pytest"]
    for target in ("demo", "test", "check", "docs"):
        assert install not in made(target)
    later = (tmp_path / ".venv" / ".extras").stat().st_mtime + 10
    os.utime(tmp_path / "constraints.txt", (later, later))
    assert made("test")[0] == install
