"""The remedies that have a name."""

from __future__ import annotations

from typing import Final

from throughtime.check import one_of
from throughtime.remedy import of_architecture, of_data, of_gradient, of_start, of_training
from throughtime.remedy.base import Remedy

__all__ = ["REMEDIES", "remedy", "table"]

_ALL = (
    *of_start.REMEDIES,
    *of_gradient.REMEDIES,
    *of_architecture.REMEDIES,
    *of_training.REMEDIES,
    *of_data.REMEDIES,
)
REMEDIES: Final[dict[str, Remedy]] = {each.name: each for each in _ALL}
"""By name."""


def remedy(name: str) -> Remedy:
    """A remedy by its name.

    Raises:
        RecipeError: if there is none.

    Example:
        >>> remedy("chrono-start").treats
        ('closed-gates', 'vanishing-gradient')
    """
    return REMEDIES[one_of("remedy", name, REMEDIES)]


def table() -> str:
    """All of them as a table in Markdown, as it stands in docs/remedies.md."""
    rows = ["| remedy | what it is | treats | predicted reach | cost | paper | does not help |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for each in REMEDIES.values():
        cells = (
            f"`{each.name}`",
            each.title,
            ", ".join(each.treats),
            each.predicts or "none",
            each.cost,
            each.paper,
            each.does_not_help,
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)
