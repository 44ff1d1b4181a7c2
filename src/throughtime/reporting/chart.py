"""A Bokeh figure in the style of the house: quiet axes, labels where the lines are, nothing that drags on a phone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import BasicTicker, BoxZoomTool, ColumnDataSource, FixedTicker, HoverTool, InlineStyleSheet, ResetTool
from bokeh.models.annotations import ColorBar, Label, Legend, LegendItem
from bokeh.plotting import figure

from throughtime.reporting.ink import AXIS, GRID, MUTED, TEXT, Ink, themed

__all__ = ["chart", "colour_bar", "decades_axis", "hover", "labelled", "line", "note", "steps_axis"]

FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"
SMALL, LABEL = "11px", "12px"
_LEGEND_LETTERS = 48
_LEGEND_ROW = 24
"""Pixels."""
_LEAST_WIDTH = 200
"""Pixels; so wide a figure is at first, before it knows its page."""
_LABEL_LETTERS = 36
"""Of an axis: what does not fit into a figure of the least width is cut, and its cut edge stays where it was drawn."""
_MOST_POINTS = 1200
"""Of one line; more cannot be told apart, and would make the page large."""
_TOOLBAR_STYLE = (
    ":host(.bk-hidden) { transition: none; } .bk-tool-overflow { display: none; } "
    "@media print { :host { display: none; } }"
)
"""A toolbar that is laid out before its figure has a height holds three dots for the tools that have no room, and where
it hides it fades out: on a busy machine that takes long enough to be seen. And nobody can click on paper."""


def chart(*, x_label: str, y_label: str, height: int = 260, **options: Any) -> Any:
    """An empty figure, as wide as the page.

    Args:
        x_label: of the axis below.
        y_label: of the axis on the left.
        height: in pixels.
        options: of `bokeh.plotting.figure`.
    """
    assert max(len(x_label), len(y_label)) <= _LABEL_LETTERS, (x_label, y_label)
    made: Any = figure(
        height=height,
        min_width=_LEAST_WIDTH,
        sizing_mode="stretch_width",
        tools=[BoxZoomTool(dimensions="width"), ResetTool()],
        active_drag=None,
        toolbar_location="right",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        x_axis_label=x_label,
        y_axis_label=y_label,
        **options,
    )
    made.toolbar.logo = None
    made.toolbar.autohide = True
    made.toolbar.stylesheets = [InlineStyleSheet(css=_TOOLBAR_STYLE)]
    for axis in made.axis:
        axis.update(
            axis_label_text_font=FONT,
            axis_label_text_font_size=LABEL,
            axis_label_text_font_style="normal",
            major_label_text_font=FONT,
            major_label_text_font_size=SMALL,
            minor_tick_line_color=None,
            major_tick_in=0,
            major_tick_out=4,
        )
        themed(
            axis,
            axis_line_color=AXIS,
            major_tick_line_color=AXIS,
            major_label_text_color=MUTED,
            axis_label_text_color=TEXT,
        )
    if x_label.startswith("updates") and options.get("x_axis_type") != "log":
        made.xaxis[0].ticker.min_interval = 1  # there is no half an update
    made.xgrid.grid_line_color = None
    for grid in made.ygrid:
        themed(grid, grid_line_color=GRID)
    return made


def line(made: Any, x: Sequence[float], y: Mapping[str, Sequence[Any]], ink: Ink, **style: Any) -> Any:
    """A line through the first column of `y`; the others are there to be hovered over.

    Args:
        made: the figure.
        x: positions.
        y: columns by name, each as long as `x`; None makes a gap.
        ink: of the line.
        style: of the line, such as `line_width`.

    Returns:
        The renderer.
    """
    name = next(iter(y))
    kept = _thinned(y[name])
    columns = {key: _column([values[place] for place in kept]) for key, values in y.items()}
    source = ColumnDataSource({"x": _column([x[place] for place in kept]), **columns})
    options = {"line_width": 2, "line_join": "round"} | style
    if sum(value is not None and value == value for value in columns[name]) < 2:
        drawn = made.scatter("x", name, source=source, size=7, line_color=None)
        themed(drawn.glyph, fill_color=ink)
        return drawn
    drawn = made.line("x", name, source=source, **options)
    themed(drawn.glyph, line_color=ink)
    return drawn


def hover(made: Any, renderers: Sequence[Any], tooltips: Sequence[tuple[str, str]], **options: Any) -> None:
    """Show numbers under the pointer."""
    made.add_tools(HoverTool(renderers=list(renderers), tooltips=list(tooltips), **options))


def note(made: Any, x: float, y: float, text: str, ink: Ink, **style: Any) -> None:
    """A few words at a place in the figure."""
    options: dict[str, Any] = {"text_font": FONT, "text_font_size": SMALL, "x_offset": 4, "y_offset": 3} | style
    label = Label(x=x, y=y, text=text)
    label.update(**{name: value for name, value in options.items() if not isinstance(value, Ink)})
    themed(label, text_color=ink, **{name: value for name, value in options.items() if isinstance(value, Ink)})
    made.add_layout(label)


def labelled(made: Any, entries: Sequence[tuple[str, Any]]) -> None:
    """A legend above the figure, in one row where a phone has room for it; a click on an entry hides its line.

    What takes more rows makes the figure higher, and not its plot lower.
    """
    fits = sum(len(text) + 5 for text, _ in entries) <= _LEGEND_LETTERS
    longest = max((len(text) for text, _ in entries), default=0)
    num_columns = len(entries) if fits else 2 if longest <= _LEGEND_LETTERS // 2 else 1
    made.height += _LEGEND_ROW * (math.ceil(len(entries) / max(1, num_columns)) - 1)
    legend = Legend(
        items=[LegendItem(label=text, renderers=[renderer]) for text, renderer in entries],
        orientation="horizontal",
        location="left",
        click_policy="hide",
        background_fill_alpha=0,
        border_line_color=None,
        label_text_font=FONT,
        label_text_font_size=SMALL,
        glyph_width=16,
        margin=4,
        spacing=10,
        ncols=num_columns,
    )
    legend.update(padding=0)
    themed(legend, label_text_color=TEXT)
    made.add_layout(legend, "above")


def colour_bar(made: Any, mapper: Any, title: str) -> None:
    """What the colours mean, above the figure."""
    bar = ColorBar(
        color_mapper=mapper,
        ticker=BasicTicker(desired_num_ticks=4),
        orientation="horizontal",
        title=title,
        title_text_font=FONT,
        title_text_font_size=SMALL,
        title_text_font_style="normal",
        major_label_text_font=FONT,
        major_label_text_font_size=SMALL,
        width="auto",
        height=8,
        padding=4,
        margin=0,
        background_fill_alpha=0,
        major_tick_line_color=None,
    )
    themed(bar, title_text_color=TEXT, major_label_text_color=MUTED, bar_line_color=AXIS)
    made.add_layout(bar, "above")


def steps_axis(axis: Any, places: Sequence[int], labels: Sequence[str], most: int = 9) -> None:
    """Label whole places of an axis by text, as many as fit."""
    every = max(1, math.ceil(len(places) / most))
    shown = sorted({*range(0, len(places), every), len(places) - 1} if places else set())
    if len(shown) > 2 and shown[-1] - shown[-2] < every:
        del shown[-2]
    axis.ticker = FixedTicker(ticks=[places[place] for place in shown])
    axis.major_label_overrides = {places[place]: labels[place] for place in shown}


def decades_axis(axis: Any, values: Iterable[float | None]) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of each decade, where it spans more than one of them.

    Bokeh's own labels of one to two decades stand evenly between the ends, and so all in the upper one.
    """
    told = [value for value in values if value is not None and 0 < value < math.inf]
    if not told:
        return
    low, high = math.log10(min(told)), math.log10(max(told))
    if 1.0 < high - low < 3.0:
        decades = range(math.floor(low), math.ceil(high) + 1)
        axis.ticker = FixedTicker(ticks=[float(f"{first}e{decade}") for decade in decades for first in (1, 2, 5)])


def _thinned(values: Sequence[Any]) -> Sequence[int]:
    """Places to keep of a long line: of every stretch the lowest and the highest, so that no spike gets lost."""
    if len(values) <= _MOST_POINTS:
        return range(len(values))
    kept = {0, len(values) - 1}
    num_stretches = _MOST_POINTS // 2
    for number in range(num_stretches):
        begin, end = (len(values) * edge // num_stretches for edge in (number, number + 1))
        told = [place for place in range(begin, end) if not math.isnan(_finite(values[place]))]
        if told:
            kept |= {min(told, key=values.__getitem__), max(told, key=values.__getitem__)}
    return sorted(kept)


def _column(values: Sequence[Any]) -> Any:
    """Numbers in the form that takes least room in a page; text as it is."""
    if any(isinstance(value, str) for value in values):
        return list(values)
    if all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int32)
    return np.array([_finite(value) for value in values], dtype=np.float32)


def _finite(value: Any) -> Any:
    """What cannot be drawn is a gap."""
    return math.nan if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
