"""The rows of a bench: a line as each is there, and a table in the end."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from throughtime.workflow import Bench, Row

__all__ = ["progress", "table"]


def progress(row: Row) -> None:
    """One line on standard error."""
    found = row.attempt
    how = f"solved in {found.seconds:.0f} s, {found.steps} steps" if found.solved else f"not solved ({_why(row)})"
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
        f"{row.task} at {row.lag}, {row.cell}, seed {row.seed}: {how}"
    )


def table(found: Bench) -> None:
    """Each cell at each lag over its seeds; and the longest lag that all seeds of a cell solved."""
    console = Console(highlight=False, markup=False)
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("cell", "lag", "solved", "steps", "seconds", "score", "trained as"):
        rows.add_column(heading, justify="left" if heading in ("cell", "trained as") else "right")
    for cell, lag in dict.fromkeys((row.cell, row.lag) for row in found.rows):
        own = [row for row in found.rows if (row.cell, row.lag) == (cell, lag)]
        rows.add_row(
            cell,
            str(lag),
            f"{sum(row.attempt.solved for row in own)} of {len(own)}",
            _range([row.attempt.steps for row in own]),
            _range([round(row.attempt.seconds) for row in own]),
            f"{min(row.attempt.score for row in own):.3f}",
            own[0].setting or "as it comes",
        )
    console.print(rows, width=None if console.is_terminal else 200)
    minutes = max(row.minutes for row in found.rows)
    for cell in dict.fromkeys(row.cell for row in found.rows):
        longest = found.longest(cell, minutes)
        text = "none" if longest is None else f"{longest}"
        console.print(f"longest lag that every seed of {cell} solves within {minutes:g} minutes: {text}")


def _why(row: Row) -> str:
    return row.attempt.failed or f"score {row.attempt.score:.3f} at length {row.attempt.length}"


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
