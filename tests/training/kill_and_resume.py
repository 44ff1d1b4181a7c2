"""Runs that are killed at random moments and resumed, beside one that never was; started by `test_resume.py`.

    python kill_and_resume.py FOLDER NUM_MOMENTS

Prints one JSON line: what differs, for each moment. Children are forked, so that torch is imported once; they compute
with one thread, so that no thread pool is lost in the fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import throughtime
from throughtime.recipe import Plan
from throughtime.storage import RunFolder
from throughtime.training.update import make_optimizer
from throughtime.workflow import gradient_watch


def train(folder: Path, text: Path) -> None:
    """Begin, or go on."""
    resume = (folder / "recipe.toml").exists()
    throughtime.train(text, out=folder, resume=resume, **json.loads(os.environ["CHOICES"]))


def forked(folder: Path, text: Path, kill_after_seconds: float | None) -> bool:
    """Train in a child; True if it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(folder, text)
            code = 0
        finally:
            os._exit(code)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def traces(folder: Path) -> dict[str, Any]:
    """All that has to be equal, wall-clock fields left out."""
    run = RunFolder(folder)
    newest = run.checkpoints.newest()
    assert newest is not None
    lines = [json.loads(line) for line in run.metrics_path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("seconds", None)
    tensors = {
        f"{group}/{name}": hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for group, named in newest.tensors.items()
        for name, tensor in sorted(named.items())
    }
    guesses = throughtime.load(folder, device="cpu", threads=1).fill("The old man ___ his pipe.", top=20)
    return {"step": newest.step, "values": newest.values, "metrics": lines, "tensors": tensors, "guesses": guesses}


def main() -> None:
    """One line of JSON: the steps at which runs were killed, and what differed."""
    folder, num_moments = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    gradient_watch.ALLOWANCE_SECONDS = 0.0  # it may look for half a second, which is most of a training here
    # The slow imports, the first optimizer's among them, once and not in every child.
    assert throughtime.train is not None
    make_optimizer(torch.nn.Linear(1, 1), Plan())
    draw = random.Random(0)
    text = folder / "book.txt"
    begin = time.perf_counter()
    assert forked(folder / "whole", text, None)
    lasted = time.perf_counter() - begin
    expected = traces(folder / "whole")
    differing, killed_at = [], []
    for moment in range(num_moments):
        path = folder / f"killed-{moment}"
        if not forked(path, text, draw.uniform(0.02, 0.95) * lasted):
            newest = RunFolder(path).checkpoints.newest() if path.exists() else None
            killed_at.append(-1 if newest is None else newest.step)
            assert forked(path, text, None)
        found = traces(path)
        differing += [f"moment {moment}: {key}" for key in expected if found[key] != expected[key]]
    json.dump({"differing": differing, "killed_at": killed_at, "tensors": len(expected["tensors"])}, sys.stdout)


if __name__ == "__main__":
    main()
