"""A picture: a figure, the sentence that says what it shows, and its numbers as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["Cell", "Picture", "Pictures", "Table", "capital", "counted", "table_html"]

Cell = str | float | int | None
"""What stands in a table."""


@dataclass(frozen=True)
class Table:
    """Numbers in rows.

    Attributes:
        columns: their headings.
        rows: one value for each; None is an empty cell.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Picture:
    """What one figure shows, for those who see it and for those who do not.

    Attributes:
        name: short, of letters and hyphens; part of a file's name.
        title: what it is about.
        sentence: what can be seen in it, with numbers.
        figure: a Bokeh model.
        table: the numbers, or the most telling of them.
        on_demand: whether a page shows it when asked only.
    """

    name: str
    title: str
    sentence: str
    figure: Any
    table: Table
    on_demand: bool = False


@dataclass(frozen=True)
class Pictures(Sequence[Picture]):
    """Some pictures of one thing; a notebook shows them.

    Attributes:
        title: of all of them.
        items: in the order in which they are to be seen.
    """

    title: str
    items: tuple[Picture, ...]

    def __getitem__(self, place: Any) -> Any:
        return self.items[place]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.items)

    def html(self) -> str:
        """A whole page."""
        from throughtime.reporting.page import Section, page

        return page(self.title, [Section("", pictures=self.items)], heading=False)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that it needs nothing of the notebook and changes nothing in it."""
        heights = sum(getattr(picture.figure, "height", 300) + 150 for picture in self.items if not picture.on_demand)
        return (
            f'<iframe srcdoc="{escape(self.html())}" title="{escape(self.title)}" loading="lazy" '
            f'style="width:100%;height:{heights}px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write a page (.html), or each picture to a file of its own (.png, .svg), which takes a browser.

        Returns:
            The files.

        Raises:
            InputError: if the ending is another, or pictures are wanted and there is no browser to draw them.
            RunError: if they cannot be written.
        """
        from throughtime.reporting.files import save_pictures

        return save_pictures(self, Path(path))


def capital(text: str) -> str:
    """A sentence with its first letter large, unless it begins with the name of a file.

    Example:
        >>> capital("not healthy"), capital("treated.safetensors holds weights")
        ('Not healthy', 'treated.safetensors holds weights')
    """
    return text if _FILE.match(text) else text[:1].upper() + text[1:]


def counted(number: int, what: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "update"), counted(2000, "update")
        ('1 update', '2,000 updates')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_FILE = re.compile(r"\w+\.[a-z]")
_AMOUNT = re.compile(r"[-−+]?[\d.,]+ [%x]")
_SHORT, _LONG = 12, 40
"""Letters from which on a cell is given room for two words a line, or for a few."""


def table_html(table: Table, *, caption: str = "") -> str:
    """A table, its text escaped, columns that hold numbers to the right, with their headings and gaps."""
    right = [any(map(_is_number, column)) for column in zip(*table.rows, strict=True)] or [False] * len(table.columns)
    sides = [' class="number"' if number else "" for number in right]
    columns = zip(sides, table.columns, strict=True)
    head = "".join(f'<th scope="col"{side}>{escape(column)}</th>' for side, column in columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row, sides))}</tr>" for row in table.rows)
    said = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f'{said}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _is_number(value: Cell) -> bool:
    return value is not None and (not isinstance(value, str) or _AMOUNT.fullmatch(value) is not None)


def _cell(value: Cell, side: str) -> str:
    if value is None:
        text = "–"
    elif isinstance(value, str):
        text = escape(value)
    else:
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"<td{side or _width(text)}>{text}</td>"


def _width(text: str) -> str:
    return ' class="long"' if len(text) > _LONG else ' class="wide"' if len(text) > _SHORT else ""
