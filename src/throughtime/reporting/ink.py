"""Colours, each for light and for dark pages, and how a figure carries both.

A figure is drawn in light colours. Every model of it that has others in the dark carries both sets in a tag, as JSON;
the script of the page (`page.js`) sets one or the other, as the reader's system asks for it, and light ones for print.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bokeh.model import Model

__all__ = [
    "ACCENT",
    "AXIS",
    "BLUE",
    "FRONT",
    "GREEN",
    "GRID",
    "HEAT",
    "Ink",
    "MUTED",
    "PAGE",
    "PLUM",
    "RED",
    "SERIES",
    "TEXT",
    "themed",
]


class Ink(NamedTuple):
    """A colour, or a list of them, on light and on dark ground."""

    light: Any
    dark: Any


PAGE = Ink("#ffffff", "#16181f")
TEXT = Ink("#24262d", "#e6e7ec")
MUTED = Ink("#6a6f7d", "#9a9fae")
AXIS = Ink("#b9bdc9", "#4a4f5e")
GRID = Ink("#e6e8ee", "#2a2d38")
ACCENT = Ink("#c2410c", "#fb923c")
FRONT = Ink("#c2410c", "#8be9fd")
"""Of the line on the heat map, which is blue in the light and orange in the dark."""
BLUE = Ink("#2a5bd7", "#7aa2ff")
GREEN = Ink("#0f7b5f", "#4fd1a5")
PLUM = Ink("#8a3ab9", "#c99bf0")
RED = Ink("#c0262d", "#ff7b7b")
SERIES = (BLUE, ACCENT, GREEN, PLUM, Ink("#8a6d00", "#e3c34a"), Ink("#0e7490", "#5cc8e0"), RED, MUTED)
"""Of lines beside each other, in this order; told apart by people who see no red or no green by their lightness too."""

_LIGHT_STOPS = ("#f6f5fb", "#d9d6f0", "#a9a8e0", "#6f78cf", "#3a4fb0", "#1d2a78", "#0d1240")
_DARK_STOPS = ("#181a22", "#2b2350", "#5a2a7a", "#96357b", "#d2535f", "#f58f47", "#ffe39a")
_NUM_SHADES = 96


def themed(model: Model, **inks: Ink) -> None:
    """Give properties of a Bokeh model their light colours, and remember the dark ones."""
    model.update(**{name: ink.light for name, ink in inks.items()})
    both = {"light": {n: i.light for n, i in inks.items()}, "dark": {n: i.dark for n, i in inks.items()}}
    model.tags = [*model.tags, json.dumps(both)]


def _shades(stops: tuple[str, ...]) -> list[str]:
    """Colours evenly between the stops, mixed in linear light."""
    channels = [[(int(stop[place : place + 2], 16) / 255) ** 2.2 for place in (1, 3, 5)] for stop in stops]
    found = []
    for number in range(_NUM_SHADES):
        at, share = divmod(number * (len(stops) - 1) / (_NUM_SHADES - 1), 1)
        low, high = channels[int(at)], channels[min(int(at) + 1, len(stops) - 1)]
        mixed = [(a + share * (b - a)) ** (1 / 2.2) for a, b in zip(low, high, strict=True)]
        found.append("#" + "".join(f"{round(255 * value):02x}" for value in mixed))
    return found


HEAT = Ink(_shades(_LIGHT_STOPS), _shades(_DARK_STOPS))
"""From nothing, in the colour of the ground, to a gradient as large as at lag 0."""
