"""Where records find what draws them: the renderer registers itself, so that nothing here knows how to draw."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughtime.storage.record import Record

__all__ = ["drawn", "register_renderer"]

_HOME = "throughtime.reporting"
"""Imported by name at the first picture that is asked for; it calls `register_renderer`."""

_renderers: list[Callable[[Record], Any]] = []


def register_renderer(renderer: Callable[[Record], Any]) -> None:
    """Draw records with `renderer` from now on: it takes one and returns something with a `_repr_html_`."""
    _renderers[:] = [renderer]


def drawn(record: Record) -> Any:
    """What the renderer makes of a record."""
    if not _renderers:
        import_module(_HOME)
    return _renderers[0](record)
