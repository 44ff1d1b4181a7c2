"""Which cell can be trained at which lag, how fast: `python benchmarks/trainability.py --out runs/trainability.jsonl`.

Two parts, both resumable: a row that is in the file is not trained again.

--part figures (the default): the long lags that published work reports, each cell with what follows from the task
before anything is trained (its start, a curriculum over length), beside plain `nn.RNN` and `nn.LSTM` as they come, in
the same minutes, over three seeds.
--part ladder: each cell at lags from short to long, until it fails at one.

Either prints the longest lag that each cell solves within so many minutes, of those that it was tried at.

Every attempt runs in a process of its own with one thread, `--workers` of them at a time. Minutes are what this thread
computes, so that other work on the machine does not count; on idle cores they are minutes of the wall clock.
`--plan` prints the jobs, and the most minutes that they can take.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from throughtime.training.compute import keep_large_blocks
from throughtime.workflow.bench_run import Row, add_row, read_rows, task_at, trained_row
from throughtime.workflow.bench_setting import BASELINES, setting_for


@dataclass(frozen=True)
class Figure:
    """What is to be reached: solved by every seed within so many minutes."""

    task: str
    lag: int
    minutes: float
    cells: tuple[str, ...]
    test_length: int | None = None


FIGURES = (
    Figure("parity", 40, 5, ("elman", "lstm", "gated-deltanet"), test_length=256),
    Figure("copying", 1000, 30, ("lru",)),
    Figure("adding", 1000, 10, ("mingru", "lstm")),
    Figure("adding", 5000, 30, ("mingru", "lstm")),
    Figure("selective-copying", 1024, 30, ("gru", "lstm")),
)
LADDERS = {
    "adding": (50, 100, 200, 500, 1000, 2000, 5000),
    "copying": (20, 50, 100, 200, 500, 1000, 2000),
    "selective-copying": (64, 128, 256, 512, 1024, 2048),
    "parity": (10, 20, 40, 80, 160),
}
LADDER_CELLS = ("elman", "orthogonal", "indrnn", "gru", "lstm", "lru", "mingru", "gated-deltanet", "lem")
LADDER_MINUTES = 5.0
WITHIN = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Job:
    """One attempt."""

    task: str
    lag: int
    cell: str
    seed: int
    minutes: float
    test_length: int | None

    def row(self) -> Row:
        """Train it; called in a process of its own."""
        torch.set_num_threads(1)
        keep_large_blocks()
        task = task_at(self.task, self.lag)
        return trained_row(
            task, self.lag, setting_for(self.cell, task), self.seed, self.minutes, self.test_length, time.process_time
        )

    @property
    def key(self) -> tuple[str, int, str, int, float, int | None]:
        """That of its row."""
        return (self.task, self.lag, self.cell, self.seed, self.minutes, self.test_length)


def figure_jobs(chosen: argparse.Namespace) -> list[Job]:
    """The prescribed cells first, the baselines last, short lags before long ones."""
    return [
        Job(figure.task, figure.lag, cell, seed, chosen.minutes or figure.minutes, figure.test_length)
        for baselines in (False, True)
        for figure in FIGURES
        if figure.task in chosen.tasks
        for cell in (BASELINES if baselines else figure.cells)
        if chosen.cells is None or cell in chosen.cells
        for seed in range(chosen.seeds)
    ]


def ladders(chosen: argparse.Namespace) -> list[list[Job]]:
    """One list for each task, cell and seed, its lags in order."""
    cells = (*LADDER_CELLS, *BASELINES) if chosen.cells is None else chosen.cells
    return [
        [Job(task, lag, cell, seed, chosen.minutes or LADDER_MINUTES, None) for lag in LADDERS[task]]
        for task in chosen.tasks
        for cell in cells
        for seed in range(chosen.seeds)
    ]


def run(queues: list[list[Job]], known: dict[object, Row], out: Path, workers: int) -> list[Row]:
    """Train what is not known. The jobs of one queue follow each other, and end with the first that is not solved."""
    rows: list[Row] = []
    waiting = iter(queues)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running: dict[Future[Row], Iterator[Job]] = {}

        def start(queue: Iterator[Job]) -> bool:
            for job in queue:
                row = known.get(job.key)
                if row is None:
                    running[pool.submit(job.row)] = queue
                    return True
                rows.append(row)
                if not row.attempt.solved:
                    return False
            return False

        while True:
            while len(running) < workers and (queue := next(waiting, None)) is not None:
                start(iter(queue))
            if not running:
                return rows
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                queue_left, row = running.pop(done), done.result()
                add_row(out, row)
                rows.append(row)
                said(row)
                if row.attempt.solved:
                    start(queue_left)


def said(row: Row) -> None:
    found = row.attempt
    how = "solved" if found.solved else found.failed or f"not solved, at length {found.length}"
    print(
        f"{row.task} at {row.lag}, {row.cell}, seed {row.seed}: {how}; {found.steps} steps, "
        f"{found.seconds:.0f} s, score {found.score:.4f}",
        flush=True,
    )


def print_figures(rows: Sequence[Row]) -> None:
    print(
        f"\n{'task':<20}{'lag':>6}  {'cell':<16}{'solved':>9}{'seconds':>16}{'worst score':>13}{'minutes':>9}"
        "  trained as"
    )
    for figure in FIGURES:
        for cell in (*figure.cells, *BASELINES):
            own = [row for row in rows if (row.task, row.lag, row.cell) == (figure.task, figure.lag, cell)]
            if not own:
                continue
            solved = sorted(row.attempt.seconds for row in own if row.attempt.solved)
            took = f"{solved[0]:.0f} to {solved[-1]:.0f}" if solved else "-"
            print(
                f"{figure.task:<20}{figure.lag:>6}  {cell:<16}{f'{len(solved)} of {len(own)}':>9}{took:>16}"
                f"{min(row.attempt.score for row in own):>13.4f}{own[0].minutes:>9g}  {own[0].setting or 'as it comes'}"
            )


def print_ladders(rows: Sequence[Row], tasks: Sequence[str]) -> None:
    """The longest lag that most seeds solved, by cell and minutes."""
    for task in tasks:
        print(
            f"\n{task}: longest lag solved within so many minutes\n{'cell':<18}" + "".join(f"{m:>8g}" for m in WITHIN)
        )
        for cell in dict.fromkeys(row.cell for row in rows if row.task == task):
            own = [row for row in rows if (row.task, row.cell) == (task, cell)]
            print(f"{cell:<18}" + "".join(f"{longest(own, minutes) or '-':>8}" for minutes in WITHIN))


def longest(rows: Sequence[Row], minutes: float) -> int | None:
    """The longest lag at which the median seed was done within so many minutes."""
    reached = []
    for lag in {row.lag for row in rows}:
        own = [row.attempt for row in rows if row.lag == lag]
        if median(each.seconds if each.solved else math.inf for each in own) <= 60 * minutes:
            reached.append(lag)
    return max(reached, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("trainability.jsonl"), help="rows, added to as they are there")
    parser.add_argument("--part", choices=("figures", "ladder"), default="figures")
    parser.add_argument("--tasks", nargs="+", choices=tuple(LADDERS), default=tuple(LADDERS))
    parser.add_argument("--cells", nargs="+", help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="of an attempt; else those of the figure, 5 of the ladder")
    parser.add_argument("--workers", type=int, default=2, help="attempts at a time, one thread each")
    parser.add_argument("--plan", action="store_true", help="print what would be trained, and how long it may take")
    chosen = parser.parse_args()
    queues = [[job] for job in figure_jobs(chosen)] if chosen.part == "figures" else ladders(chosen)
    known: dict[object, Row] = {row.key: row for row in read_rows(chosen.out)}
    left = [job for queue in queues for job in queue if job.key not in known]
    hours = sum(job.minutes for job in left) / 60 / chosen.workers
    print(f"{len(left)} attempts are not in {chosen.out} yet: at most {hours:.1f} hours in {chosen.workers} processes")
    if chosen.plan:
        for job in left:
            print(f"  {job.task} at {job.lag}, {job.cell}, seed {job.seed}: at most {job.minutes:g} minutes")
        return
    rows = run(queues, known, chosen.out, chosen.workers)
    if chosen.part == "figures":
        print_figures(rows)
    print_ladders(rows, chosen.tasks)


if __name__ == "__main__":
    sys.exit(main())
