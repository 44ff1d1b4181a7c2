"""The commands that measure the matter itself, and need neither a run nor a model of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from throughtime.cli.options import Json

__all__ = ["bench", "why"]

Several = Parameter(consume_multiple=True, negative=())


def why(
    *,
    seed: int = 0,
    html: Path | None = None,
    markdown: Path | None = None,
    json: Path | None = None,
    stored: Path | None = None,
) -> None:
    """Why recurrent networks are hard to train: eight short measurements, made now, in about a minute.

    Args:
        seed: Of all weights and data.
        html: A file for the same as a page with pictures.
        markdown: A file for the same as a page in Markdown.
        json: A file for all numbers.
        stored: A file that --json wrote, to be shown in place of measuring anew.
    """
    from throughtime.cli import show_why
    from throughtime.workflow import WhyRecord, write_why
    from throughtime.workflow import why as measure_why

    if stored is None:
        record = measure_why(seed=seed, tell=show_why.answer)
    else:
        record = WhyRecord.load(stored)
        for answer in record.answers:
            show_why.answer(answer)
    write_why(record, json=json, markdown=markdown, html=html)


def bench(
    *,
    task: str = "copy",
    lag: Annotated[list[int] | None, Several] = None,
    cells: Annotated[list[str] | None, Several] = None,
    minutes: float = 2.0,
    seeds: int = 1,
    threads: int = 0,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Which cell can be trained at which lag, on this machine: each is trained until it has solved the task.

    Args:
        task: One of throughtime.tasks, such as adding, copying (or copy), selective-copying, delayed-recall, parity.
        lag: One or several; 100 unless given. The longer one is, the longer a step takes.
        cells: Names of cells, and torch-rnn and torch-lstm, torch's own; eight unless given.
        minutes: For each cell, lag and seed.
        seeds: How many for each cell.
        threads: Of the process; torch's choice for 0.
        out: A file to which each result is added as it is there; what it holds already is not trained again.
        json: Print JSON.
    """
    from throughtime.cli import show, show_bench
    from throughtime.workflow import bench as run_bench

    found = run_bench(
        task,
        lag or [100],
        cells=cells,
        minutes=minutes,
        seeds=seeds,
        threads=threads,
        out=out,
        tell=show_bench.progress,
    )
    if json:
        show.as_json(found.to_json())
    else:
        show_bench.table(found)
