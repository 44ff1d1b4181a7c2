"""Curves drawn with characters, for a terminal or a file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from rich.text import Text

from throughtime.workflow import Chart, Curve

__all__ = ["drawn"]

_MARKS = "oxz+*#@"
_STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue", "white")
_HEIGHT, _LABEL = 12, 8


def drawn(chart: Chart, width: int) -> Text:
    """The chart as lines of text; colours are styles, which a console drops where they are not wanted.

    Args:
        chart: what to draw.
        width: columns in all.

    Returns:
        Lines without a newline at the end: the axis label, the picture, the axis and the legend.
    """
    columns = max(20, width - _LABEL - 2)
    points = [_points(curve, chart) for curve in chart.curves]
    xs = [x for curve in points for x, _ in curve]
    ys = [y for curve in points for _, y in curve]
    if not xs:
        return Text(f"{chart.y_label}: nothing to draw")
    x_range, y_range = _range(xs), _range(ys)
    grid = [[(" ", "")] * columns for _ in range(_HEIGHT)]
    for number, own in reversed(list(enumerate(points))):
        mark, style = _MARKS[number % len(_MARKS)], _STYLES[number % len(_STYLES)]
        for x, y in _dense(own, columns) if chart.joined else own:
            grid[_cell(y, y_range, _HEIGHT)][_cell(x, x_range, columns)] = (mark, style)
    text = Text(f"{chart.y_label}\n")
    for row in reversed(range(_HEIGHT)):
        at = y_range[0] + (y_range[1] - y_range[0]) * row / (_HEIGHT - 1)
        text.append(f"{at:>{_LABEL}.3g} |" if row % 4 == 3 or row == 0 else " " * (_LABEL + 1) + "|")
        for mark, style in grid[row]:
            text.append(mark, style)
        text.append("\n")
    text.append(_axis(chart, (min(xs), max(xs)), columns))
    for number, curve in enumerate(chart.curves):
        text.append("\n" + " " * (_LABEL + 2))
        text.append(_MARKS[number % len(_MARKS)], _STYLES[number % len(_STYLES)])
        text.append(f" {curve.name}")
    return text


def _points(curve: Curve, chart: Chart) -> list[tuple[float, float]]:
    return [(math.log10(x) if chart.log_x else x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _cell(value: float, limits: tuple[float, float], count: int) -> int:
    return round((value - limits[0]) / (limits[1] - limits[0]) * (count - 1))


def _dense(curve: list[tuple[float, float]], columns: int) -> list[tuple[float, float]]:
    """Points close enough to look like a line."""
    dense = curve[:1]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        dense += [(x0 + (x1 - x0) * i / columns, y0 + (y1 - y0) * i / columns) for i in range(1, columns + 1)]
    return dense


def _axis(chart: Chart, limits: tuple[float, float], columns: int) -> str:
    first, last = (f"{10**limit if chart.log_x else limit:,.4g}" for limit in limits)
    label = f"{chart.x_label}{', logarithmic' if chart.log_x else ''}"
    middle = label.center(max(len(label), columns - len(first) - len(last)))
    return " " * (_LABEL + 1) + "+" + "-" * columns + "\n" + " " * (_LABEL + 2) + first + middle + last
