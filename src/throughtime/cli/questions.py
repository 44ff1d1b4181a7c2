"""The commands that measure the matter itself, and need neither a run nor a model of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from throughtime.cli.options import Json, MachineOptions, machine

__all__ = ["bench", "why"]

Several = Parameter(consume_multiple=True, negative=())


def why(
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    stored: Path | None = None,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """Why recurrent networks are hard to train: eight short measurements, made now, in about a minute.

    Args:
        html: A file for the same as a page with pictures.
        markdown: A file for the same as a page in Markdown.
        stored: A file with what --json printed, to be shown in place of measuring anew.
        json: Print JSON: all numbers.
        compute: The machine; one thread unless given, which is fastest for networks as small as these.
    """
    from throughtime.cli import show, show_why
    from throughtime.workflow import WhyRecord, write_why
    from throughtime.workflow import why as measure_why

    here = machine(compute, "seed", "threads")
    tell = show_why.silent if json else show_why.answer
    if stored is None:
        record = measure_why(**here, tell=tell)
    else:
        record = WhyRecord.load(stored)
        for answer in record.answers:
            tell(answer)
    write_why(record, markdown=markdown, html=html)
    if json:
        show.as_json(record.to_json())


def bench(
    *,
    task: str = "copy",
    lag: Annotated[list[int] | None, Several] = None,
    cells: Annotated[list[str] | None, Several] = None,
    minutes: float = 2.0,
    seeds: int = 1,
    out: Path | None = None,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """Which cell can be trained at which lag, on this machine: each is trained until it has solved the task.

    Args:
        task: One of throughtime.tasks, such as adding, copying (or copy), selective-copying, delayed-recall, parity.
        lag: One or several; 100 unless given. The longer one is, the longer a step takes.
        cells: Names of cells, and torch-rnn and torch-lstm, torch's own; eight unless given.
        minutes: For each cell, lag and seed.
        seeds: How many for each cell.
        out: A file to which each result is added as it is there; what it holds already is not trained again.
        json: Print JSON.
        compute: The machine; --seed is the first of the seeds.
    """
    from throughtime.cli import show, show_bench
    from throughtime.workflow import bench as run_bench

    found = run_bench(
        task,
        lag or [100],
        cells=cells,
        minutes=minutes,
        seeds=seeds,
        out=out,
        tell=show_bench.progress,
        **machine(compute, "seed", "threads"),
    )
    if json:
        show.as_json(found.to_json())
    else:
        show_bench.table(found)
