"""A run that is killed at each file operation of one of its saves, and resumed; started by `test_resume.py`.

    python kill_in_save.py FOLDER

Prints one JSON line: at how many operations it was killed, at which steps it went on from there, and what differed in
the end from a run that never was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from itertools import count
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import torch

import throughtime
from storage.kill_saves import KILLED, Death
from throughtime.recipe import Plan
from throughtime.storage import CheckpointStore, RunFolder
from throughtime.training.update import make_optimizer
from throughtime.workflow import gradient_watch
from training.kill_and_resume import forked, traces, train

SAVE = 3
"""Which save of the run is broken off: one that has older ones to remove."""


def die_in_save(number: int, moment: int) -> None:
    """Let this process end at the `moment`-th file operation of its save of that number."""
    save, num_saves = CheckpointStore.save, 0

    def watched(store: CheckpointStore, *arguments: Any, **options: Any) -> Path:
        nonlocal num_saves
        num_saves += 1
        if num_saves != number:
            return save(store, *arguments, **options)
        death = Death(moment, store.folder, power_lost=False)
        path = save(store, *arguments, **options)
        death.countdown = 0  # it is over: what comes now is not counted
        return path

    CheckpointStore.save = watched  # type: ignore[method-assign]


def came_to_its_end(folder: Path, text: Path, number: int, moment: int) -> bool:
    """Train in a child that dies in a save."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_in_save(number, moment)
            train(folder, text)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == 0


def main() -> None:
    """One line of JSON."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    gradient_watch.ALLOWANCE_SECONDS = 0.0  # it may look for half a second, which is most of a training here
    assert throughtime.train is not None
    make_optimizer(torch.nn.Linear(1, 1), Plan())
    text = folder / "book.txt"
    assert forked(folder / "whole", text, None)
    expected = traces(folder / "whole")
    differing: list[str] = []
    goes_on_from: list[int] = []
    assert not came_to_its_end(folder / "killed-1", text, SAVE, 1)
    for moment in count(2):  # all of them have the same way there, which is gone once
        shutil.copytree(folder / "killed-1", folder / f"killed-{moment}")
        if came_to_its_end(folder / f"killed-{moment}", text, 1, moment):
            break
    for number in range(1, moment):
        path = folder / f"killed-{number}"
        newest = RunFolder(path).checkpoints.newest()
        goes_on_from.append(-1 if newest is None else newest.step)
        assert forked(path, text, None)
        found = traces(path)
        differing += [f"operation {number}: {key}" for key in expected if found[key] != expected[key]]
    json.dump({"differing": differing, "goes_on_from": goes_on_from}, sys.stdout)


if __name__ == "__main__":
    main()
