"""`throughtime.bench`: which cell can be trained at which lag, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from throughtime import tasks
from throughtime.check import at_least
from throughtime.errors import RecipeError, RunError
from throughtime.storage import MetricsFile
from throughtime.tasks import Task
from throughtime.training.compute import keep_large_blocks
from throughtime.trial.surroundings import num_threads
from throughtime.workflow.bench_attempt import Attempt, attempt
from throughtime.workflow.bench_setting import DEFAULT_CELLS, Setting, setting_for

__all__ = ["Bench", "Row", "add_row", "bench", "read_rows", "task_at", "trained_row"]


@dataclass(frozen=True)
class Row:
    """One cell at one lag with one seed.

    Attributes:
        task: its name.
        lag: as it was asked for.
        cell: one of `throughtime.workflow.bench_setting.contenders`.
        seed: of weights and data.
        minutes: that it had.
        test_length: of the sequences that it was tested on; None for those of the task.
        setting: how it was trained, in words.
        attempt: how it went.
    """

    task: str
    lag: int
    cell: str
    seed: int
    minutes: float
    test_length: int | None
    setting: str
    attempt: Attempt

    @property
    def key(self) -> tuple[str, int, str, int, float, int | None]:
        """What was asked for."""
        return (self.task, self.lag, self.cell, self.seed, self.minutes, self.test_length)


@dataclass(frozen=True)
class Bench:
    """What came of all cells.

    Attributes:
        rows: in the order in which they were trained.
    """

    rows: tuple[Row, ...]

    def longest(self, cell: str, minutes: float) -> int | None:
        """The longest lag that every seed of a cell solved within so many minutes; None if there is none."""
        lags = {row.lag for row in self.rows if row.cell == cell}
        own = {lag: [row for row in self.rows if (row.cell, row.lag) == (cell, lag)] for lag in lags}
        solved = [lag for lag, rows in own.items() if all(_within(row, minutes) for row in rows)]
        return max(solved, default=None)

    def to_json(self) -> list[dict[str, Any]]:
        """Every row as plain values."""
        return [asdict(row) for row in self.rows]


def bench(
    task: str,
    lag: int | Sequence[int],
    *,
    cells: Sequence[str] | None = None,
    minutes: float = 2.0,
    seeds: int = 1,
    seed: int = 0,
    test_length: int | None = None,
    threads: int = 0,
    out: str | Path | None = None,
    tell: Callable[[Row], None] | None = None,
) -> Bench:
    """Train cells on a task whose need is known, until they have solved it or time is up.

    A cell is given what follows from the lag before anything is trained: its start, and a curriculum over length.
    "torch-rnn" and "torch-lstm" are torch's own modules as they come. Solved means an accuracy of 0.99 (adding: a mean
    squared error below 0.01) on 512 sequences that were not trained on.

    Args:
        task: one of `throughtime.tasks.names()`, or "copy" for "copying".
        lag: as `task_at` takes it; one or several.
        cells: names; a list of eight unless given.
        minutes: for each cell, lag and seed, of wall-clock time.
        seeds: how many for each cell.
        seed: the first of them.
        test_length: of the sequences of the test; as long as those of the task unless given.
        threads: with which torch computes; as many as it does anyway for 0.
        out: a file of JSON lines, to which each row is added; what it holds already is not trained again.
        tell: called with each row as it is there.

    Returns:
        All rows, those from the file too where they were asked for.

    Raises:
        RecipeError: if a name is unknown, a number is out of range, or the task is too short.
        RunError: if the file is damaged or cannot be written.
    """
    at_least("seeds", seeds, 1)
    at_least("threads", threads, 0)
    if not minutes > 0:
        raise RecipeError(f"minutes must be above 0, not {minutes:g}")
    jobs = [
        (task_at(task, each), each, setting_for(cell, task_at(task, each)), seed + number)
        for each in ([lag] if isinstance(lag, int) else lag)
        for cell in (DEFAULT_CELLS if cells is None else cells)
        for number in range(seeds)
    ]
    keep_large_blocks()
    path = None if out is None else Path(out)
    known = {} if path is None else {row.key: row for row in read_rows(path)}
    rows = []
    for made, each, setting, drawn in jobs:
        row = known.get((made.name, each, setting.cell, drawn, float(minutes), test_length))
        if row is None:
            with num_threads(threads):
                row = trained_row(made, each, setting, drawn, float(minutes), test_length)
            if path is not None:
                add_row(path, row)
        rows.append(row)
        if tell is not None:
            tell(row)
    return Bench(tuple(rows))


def task_at(name: str, lag: int) -> Task:
    """A task at a lag.

    Args:
        name: one of `throughtime.tasks.names()`, or "copy" for "copying".
        lag: for copying the blanks between what is to be told again and the first answer, as its papers count; for
            n-back its own; for others the steps of a sequence, which is their need plus one where they have one.

    Returns:
        The task, with the published settings otherwise.

    Raises:
        RecipeError: if the name is unknown, or the task cannot be that short.

    Example:
        >>> task_at("copy", 500).length, task_at("adding", 500).length
        (520, 500)
    """
    known = _ALIASES.get(name, name)
    at_least("lag", lag, 1)
    if known == "copying":
        return tasks.make(known, length=lag + 2 * tasks.Copying().num_copied)
    if known == "n-back":
        return tasks.make(known, lag=lag, length=2 * lag + 1)
    return tasks.make(known, length=lag)


def trained_row(
    task: Task,
    lag: int,
    setting: Setting,
    seed: int,
    minutes: float,
    test_length: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Train one cell, for so many minutes by the clock."""
    found = attempt(task, setting, minutes=minutes, seed=seed, test_length=test_length, clock=clock)
    return Row(task.name, lag, setting.cell, seed, minutes, test_length, setting.words, found)


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file, after what a killed process left behind its last whole line is removed.

    Raises:
        RunError: if the file is damaged.
    """
    lines = MetricsFile(path)
    lines.truncate_after(0)
    try:
        return tuple(Row(**{**line, "attempt": Attempt(**line["attempt"])}) for line in lines.read())
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} holds no rows of a bench ({error}): choose another --out") from error


def add_row(path: Path, row: Row) -> None:
    """Append a row to a file.

    Raises:
        RunError: if it cannot be written.
    """
    MetricsFile(path).append(asdict(row))


def _within(row: Row, minutes: float) -> bool:
    """Whether it was solved in that time; the last test, after time is up, does not count against it."""
    return row.attempt.solved and (row.minutes <= minutes or row.attempt.seconds <= 60 * minutes)


_ALIASES = {"copy": "copying", "selective-copy": "selective-copying"}
