"""Kills a save at every moment, one forked child a kill, and checks what each leaves. Run by `test_checkpoints.py`.

Usage: `python kill_saves.py FOLDER SCENARIO FAILURE ...` prints {FAILURE: {"kills": ..., "complaints": [...]}} as JSON.
The failures:

- killed: the process ends at its n-th operation on files, for every n;
- power_lost: the same, and every file that was not flushed to the disk by then is torn;
- cut: the kernel kills the process in the middle of a write, at every 64th byte of a file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from throughtime.errors import RunError
from throughtime.storage import Checkpoint, CheckpointStore, verify

KILLED = 9
FILE_EVENTS = {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "shutil.rmtree"}


def content(mark: int) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """What checkpoint `mark` holds: no two marks hold the same."""
    generator = torch.Generator().manual_seed(mark)
    weight = torch.randn(40, 5, generator=generator)
    tensors = {
        "model": {"weight": weight, "tied": weight, "scale": torch.tensor(float(mark))},
        "optimizer": {"moment": torch.randn(300, generator=generator).double()},
        "random": {"state": torch.randint(256, (64,), generator=generator, dtype=torch.uint8)},
    }
    return tensors, {"mark": mark, "lr": 0.1 / mark, "words": [mark, "né"]}


def save(store: CheckpointStore, step: int, *, mark: int, best: int) -> None:
    tensors, values = content(mark)
    store.save(step, tensors, values, best_step=best)


def is_mark(found: Checkpoint, mark: int) -> bool:
    """Whether a loaded checkpoint is checkpoint `mark`, bit for bit."""
    tensors, values = content(mark)
    return (
        found.values == values
        and {group: named.keys() for group, named in found.tensors.items()} == {g: n.keys() for g, n in tensors.items()}
        and all(torch.equal(found.tensors[g][name], tensor) for g, n in tensors.items() for name, tensor in n.items())
    )


@dataclass(frozen=True)
class Scenario:
    """What is there before, the save that is killed, and the marks of the newest before and after it."""

    prepare: Callable[[CheckpointStore], None]
    action: Callable[[CheckpointStore], None]
    before: int
    after: int
    damaged: str = ""


def one(store: CheckpointStore) -> None:
    save(store, 1, mark=1, best=1)


def three(store: CheckpointStore) -> None:
    for step in (1, 2, 3):
        save(store, step, mark=step, best=1)


def one_and_a_damaged_one(store: CheckpointStore) -> None:
    one(store)
    save(store, 2, mark=2, best=1)
    (store.folder / "step-000000002" / "values.json").write_bytes(b"")


SCENARIOS = {
    "next": Scenario(one, lambda store: save(store, 2, mark=2, best=1), before=1, after=2),
    "pruning": Scenario(three, lambda store: save(store, 4, mark=4, best=4), before=3, after=4),
    "again": Scenario(one, lambda store: save(store, 1, mark=2, best=1), before=1, after=2),
    "after_damage": Scenario(
        one_and_a_damaged_one,
        lambda store: save(store, 2, mark=3, best=1),
        before=1,
        after=3,
        damaged="step-000000002",
    ),
}


class Death:
    """Ends this process at its n-th operation on files; if power is lost, tears what has not reached the disk."""

    def __init__(self, moment: int, root: Path, *, power_lost: bool) -> None:
        self.countdown, self.root, self.power_lost = moment, root, power_lost
        self.flushed = {identity(path.stat()) for path in root.rglob("*")}
        self.fsync = os.fsync
        os.fsync = self.watched_fsync
        sys.addaudithook(lambda event, _: self.tick() if event in FILE_EVENTS else None)

    def watched_fsync(self, descriptor: Any) -> None:
        self.tick()
        self.fsync(descriptor)
        self.flushed.add(identity(os.fstat(descriptor)))

    def tick(self) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            self.tear()
            os._exit(KILLED)

    def tear(self) -> None:
        for path in self.root.rglob("*") if self.power_lost else ():
            status = path.stat()
            if path.is_file() and identity(status) not in self.flushed:
                os.truncate(path, status.st_size // 2)


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """A file in one state: a later write changes it."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def limit_files(num_bytes: int) -> None:
    """Let the kernel kill this process in the write that makes a file longer than `num_bytes`."""
    import resource  # here, because Windows has none

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def child(scenario: Scenario, store: CheckpointStore, failure: str, moment: int) -> NoReturn:
    code = 1
    try:
        if failure == "cut":
            limit_files(64 * (moment - 1))
            scenario.action(store)
        else:
            death = Death(moment, store.folder, power_lost=failure == "power_lost")
            scenario.action(store)
            death.tear()  # what a save has promised must outlive the power, too
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def is_whole(path: Path) -> bool:
    try:
        verify(path)
    except RunError:
        return False
    return True


def complaint(store: CheckpointStore, marks: set[int], damaged: str) -> str | None:
    """What is wrong with a store in which a save was killed, the following save included."""
    found = store.newest()
    if found is None or found.values["mark"] not in marks or not is_mark(found, found.values["mark"]):
        return f"the newest is {found}"
    half_written = [path.name for path in store.folder.glob("step-*") if path.name != damaged and not is_whole(path)]
    if half_written:
        return f"half-written ones are to be seen: {half_written}"
    save(store, 5, mark=5, best=found.step)
    newest, best = store.newest(), store.best()
    if newest is None or not is_mark(newest, 5) or newest.skipped:
        return f"the newest after the following save is {newest}"
    if best is None or not is_mark(best, found.values["mark"]) or best.skipped:
        return f"the best after the following save is {best}"
    present = {path.name for path in store.folder.iterdir()}
    needless = {name for name in present if name.startswith(".") or name.removesuffix(".replaced") in present - {name}}
    return f"the following save left {needless}" if needless else None


def campaign(folder: Path, scenario: Scenario, failure: str) -> dict[str, Any]:
    scenario.prepare(CheckpointStore(folder / "template"))
    complaints: list[str] = []
    moment, ended = 0, KILLED
    while ended in (KILLED, -signal.SIGXFSZ):
        moment += 1
        store = CheckpointStore(folder / f"{moment}")
        shutil.copytree(folder / "template", store.folder)
        process = os.fork()
        if process == 0:
            child(scenario, store, failure, moment)
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        marks = {scenario.after} if ended == 0 else {scenario.before, scenario.after}
        if wrong := complaint(store, marks, scenario.damaged):
            complaints.append(f"moment {moment}: {wrong}")
        shutil.rmtree(store.folder)
    if ended != 0:
        complaints.append(f"moment {moment}: the save failed")
    return {"kills": moment - 1, "complaints": complaints}


if __name__ == "__main__":
    _, root, chosen, *failures = sys.argv
    results = {failure: campaign(Path(root, failure), SCENARIOS[chosen], failure) for failure in failures}
    sys.stdout.write(json.dumps(results))
