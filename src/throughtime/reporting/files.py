"""Pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from throughtime.errors import InputError
from throughtime.storage import write_text

if TYPE_CHECKING:
    from throughtime.reporting.picture import Pictures

__all__ = ["save_pictures"]


def save_pictures(pictures: Pictures, path: Path) -> tuple[Path, ...]:
    """See `Pictures.save`."""
    if path.suffix == ".html":
        write_text(path, pictures.html())
        return (path,)
    raise InputError(f"pictures are saved as .html, .png or .svg, not {path.suffix or path.name}")
