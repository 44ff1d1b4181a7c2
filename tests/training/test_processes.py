"""Two processes train one model: equal weights, streams of their own, and a dead one ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import throughtime
from throughtime.storage import MetricsFile, RunFolder
from throughtime.training.processes import TIMEOUT_VARIABLE
from tiny import OPTIONS, made_text

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_GLOO_LAZY_INIT": "1"}

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="no distributed torch here"
)


def command(*arguments: str) -> list[str]:
    return [*TORCHRUN, "--standalone", "-m", "throughtime", "train", *arguments]


def finished(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=180, check=False
    )


def fails_at_exit(folder: Path) -> dict[str, str]:
    """An environment in which a process of several that takes its interpreter down ends with code 7."""
    folder.mkdir()
    code = "import atexit, os\nif 'LOCAL_RANK' in os.environ: atexit.register(os._exit, 7)\n"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_two_processes_train_one_model_and_resume(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text(made_text(), encoding="utf-8")
    out = tmp_path / "run"
    environment = fails_at_exit(tmp_path / "site")
    done = finished(command(str(text), "--out", str(out), "--epochs", "1", *OPTIONS), **environment)
    assert done.returncode == 0, done.stderr
    newest = RunFolder(out).checkpoints.newest()
    assert newest is not None
    carried = newest.tensors["carried"]
    assert {name.split(".")[0] for name in carried} == {"0", "1"}
    assert not torch.equal(carried["0.0"], carried["1.0"])
    steps = [line for line in MetricsFile(out / "metrics.jsonl").read() if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, newest.step + 1))
    alone = throughtime.train(
        text, out=tmp_path / "alone", epochs=1, hidden_size=8, embedding_size=8, window=6, num_streams=4, min_count=1
    )
    assert newest.step < alone.outcome.steps

    again = finished([sys.executable, "-m", "throughtime", "train", "--out", str(out), "--resume"])
    assert again.returncode == 2
    assert "was begun by 2 processes and cannot go on with 1" in again.stderr


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hung"])
def test_a_process_that_is_lost_ends_the_run_and_it_can_go_on(tmp_path: Path, blow: signal.Signals) -> None:
    text = tmp_path / "book.txt"
    text.write_text(made_text(2000), encoding="utf-8")
    out = tmp_path / "run"
    with subprocess.Popen(
        command(str(text), "--out", str(out), "--epochs", "2", *OPTIONS),
        env=ENVIRONMENT | {TIMEOUT_VARIABLE: "15"},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 120
        while not (out / "checkpoints").exists() and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.05)
        children = subprocess.run(
            ["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[-1]), blow)
        assert running.stderr is not None
        errors = ""
        while "lost touch with the others" not in errors and (line := running.stderr.readline()):
            errors += line
        with suppress(ProcessLookupError):
            os.kill(int(children[-1]), signal.SIGKILL)  # torchrun would wait half a minute for one that hangs
        running.communicate(timeout=180)
    assert running.returncode != 0
    assert "lost touch with the others" in errors
    newest = RunFolder(out).checkpoints.newest()
    assert newest is not None
    assert not (out / "outcome.json").exists()
    if blow == signal.SIGKILL:
        resumed = finished(command("--out", str(out), "--resume"))
        assert resumed.returncode == 0, resumed.stderr
        assert f"from step {newest.step}" in resumed.stderr
        assert (out / "outcome.json").exists()


def test_a_signal_ends_every_process_with_a_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text(made_text(), encoding="utf-8")
    out = tmp_path / "run"
    with subprocess.Popen(
        command(str(text), "--out", str(out), "--epochs", "10000", "--patience", "10000", *OPTIONS),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.05)
        running.terminate()
        _, errors = running.communicate(timeout=180)
    assert running.returncode != 0
    newest = RunFolder(out).checkpoints.newest()
    assert newest is not None
    assert errors.count(f"stopped by signal 15 after step {newest.step} of ") == 2
    assert MetricsFile(out / "metrics.jsonl").read()[-1]["step"] == newest.step
    assert not (out / "outcome.json").exists()


def test_a_timeout_that_is_no_number_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text(made_text(), encoding="utf-8")
    environment = {"WORLD_SIZE": "2", "RANK": "0", TIMEOUT_VARIABLE: "soon"}
    arguments = [sys.executable, "-m", "throughtime", "train", str(text), "--out", str(tmp_path / "run")]
    refused = finished(arguments, **environment)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        f"throughtime: {TIMEOUT_VARIABLE} must be a number of seconds above 0, not 'soon'"
    ]
