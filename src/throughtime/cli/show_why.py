"""The answers of `why` in a terminal, one after another as they come."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from throughtime.cli.chart import drawn
from throughtime.workflow import Answer, question_of, sentence_of, shown

__all__ = ["answer", "silent"]

_WIDTH = 76
_WIDE = 160
"""Of what goes to a file: wide enough for every table."""


def answer(found: Answer) -> None:
    """The question, the sentence, the picture and the numbers."""
    terminal = Console().is_terminal
    console = Console(highlight=False, markup=False, width=None if terminal else _WIDE)
    width = min(console.width, 100) if terminal else _WIDTH
    console.print(Text(question_of(found), style="bold"))
    console.print(sentence_of(found), width=width)
    console.print()
    console.print(drawn(found.chart, min(width, _WIDTH)), no_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in found.table.columns:
        table.add_column(column, justify="right")
    for row in found.table.rows:
        table.add_row(*(shown(value) for value in row))
    console.print(table)
    console.print(Text(f"({found.seconds:.1f} s)\n", style="dim"))


def silent(_: Answer) -> None:
    """Nothing: what is printed in the end is all."""
