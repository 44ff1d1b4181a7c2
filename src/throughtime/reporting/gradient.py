"""Gradient through time as pictures: a heat map over a training, and curves over the lag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, LinearColorMapper
from bokeh.models.annotations import Span

from throughtime.measurement import GradientHistory, GradientRecord, LagProfile
from throughtime.measurement.gradient_record import REACH_SHARE
from throughtime.reporting.chart import LABEL, chart, colour_bar, hover, labelled, line, note, steps_axis
from throughtime.reporting.ink import FRONT, GREEN, HEAT, MUTED, PAGE, PLUM, SERIES, Ink, themed
from throughtime.reporting.picture import Picture, Table, counted

__all__ = ["gradient_curves", "gradient_heat_map", "lags_shown", "layer_heat_maps", "layer_title", "parameter_title"]

FAINTEST = -6.0
"""log10 of the gradient below which the colour is that of nothing."""
_FEWEST_LAGS = 16
_CONTAINERS = ("model", "stack", "layers")
"""Parts of a module's name that say nothing to a reader."""
_TOLD_LAGS = (1, 2, 4, 8, 16, 32, 64, 128)


def gradient_heat_map(
    history: GradientHistory, *, need: int | None = None, use: int | None = None, lags: int | None = None
) -> Picture:
    """The picture of this package: lag against training step, for the layer that speaks for the model.

    Args:
        history: what was measured.
        need: steps that the data need, to be drawn on it.
        use: steps that the trained model uses, for the sentence alone.
        lags: that are shown; as many as hold something to see unless given.
    """
    return _heat_map(history, history.top, need, use, lags=lags)


def layer_heat_maps(history: GradientHistory, *, need: int | None = None) -> list[Picture]:
    """The same for every other layer, shown on demand."""
    return [_heat_map(history, name, need, None, on_demand=True) for name in history.layers if name != history.top]


def gradient_curves(record: GradientRecord) -> Picture:
    """The gradient by lag, once, of every layer, with the quartiles over sequences of the one that speaks."""
    made = chart(x_label="lag (steps back)", y_label="log10 of the gradient, lag 0 = 0", height=300)
    profiles = record.modules
    drawn = []
    for (name, profile), ink in zip(profiles.items(), SERIES * len(profiles), strict=False):
        lags = list(range(len(profile.log10_gradient)))
        if name == record.top and profile.spread:
            _band(made, lags, profile, ink)
        if lags:
            drawn.append((layer_title(name), line(made, lags, {"log10": profile.log10_gradient}, ink)))
    _threshold(made)
    labelled(made, drawn)
    hover(made, [renderer for _, renderer in drawn], [("lag", "@x"), ("log10", "@log10{0.00}")], mode="vline")
    rows = tuple((layer_title(n), p.reach, p.decay_per_step, *_at_lags(p.log10_gradient)) for n, p in profiles.items())
    columns = ("layer", "reach", "factor a step", *(f"log10 at lag {lag}" for lag in _TOLD_LAGS))
    return Picture("gradient", "Gradient through time", str(record.profile) + ".", made, Table(columns, rows))


def layer_title(name: str) -> str:
    """A module's name as a person says it.

    Example:
        >>> layer_title("stack.layers.0"), layer_title("left.layers.1"), layer_title("encoder.lstm")
        ('layer 1', 'left layer 2', 'encoder.lstm')
    """
    *path, last = name.split(".")
    if not last.isdigit():
        return name
    return " ".join([*(part for part in path if part not in _CONTAINERS), f"layer {int(last) + 1}"])


def parameter_title(name: str) -> str:
    """A parameter's name as a person says it.

    Example:
        >>> parameter_title("left.layers.0.cells.0.weight_hh"), parameter_title("output.bias")
        ('left layer 1 recurrent', 'output bias')
    """
    *path, last = name.split(".")
    words = {"weight_ih": "input", "weight_hh": "recurrent", "weight": "", "bias": "bias"}.get(last, last)
    depth = path.index("layers") + 2 if "layers" in path[:-1] else 0
    named = layer_title(".".join(path[:depth])) if depth else ".".join(path)
    return f"{named} {words}".strip() or name


def _heat_map(
    history: GradientHistory,
    layer: str,
    need: int | None,
    use: int | None,
    *,
    on_demand: bool = False,
    lags: int | None = None,
) -> Picture:
    curves, reach = history.layers[layer], history.reach[layer]
    lags = lags or lags_shown(history, layer, need)
    columns = len(history.steps)
    made = chart(
        x_label="updates made",
        y_label="lag (steps back)",
        height=380,
        x_range=(-0.5, columns - 0.5),
        y_range=(-0.5, lags + 0.5),
    )
    made.ygrid.grid_line_color = None
    mapper = LinearColorMapper(low=FAINTEST, high=0.0, palette=HEAT.light)
    themed(mapper, palette=HEAT)
    mapper.nan_color = "rgba(0,0,0,0)"
    _cells(made, mapper, curves, history.steps, lags)
    colour_bar(made, mapper, "log10 of the gradient, relative to lag 0")
    steps_axis(made.xaxis[0], range(columns), [f"{step:,}" for step in history.steps])
    _frontier(made, history, layer)
    _levels(made, {"window": history.window, "need": need}, lags, [value for value in reach[:2] if value is not None])
    rows = tuple(
        (step, _reach_text(reach[i], history.censored[layer][i]), *_at_lags(curves[i]))
        for i, step in enumerate(history.steps)
    )
    names = ("updates", "reach", *(f"log10 at lag {lag}" for lag in _TOLD_LAGS))
    slug = "gradient-history" + (f"-{layer_title(layer).replace(' ', '-')}" if on_demand else "")
    sentence = _sentence(history, layer, need, use)
    return Picture(slug, f"Gradient through time, {layer_title(layer)}", sentence, made, Table(names, rows), on_demand)


def _cells(made: Any, mapper: Any, curves: Sequence[Any], steps: Sequence[int], lags: int) -> None:
    """An image whose columns are the measurements, with arrays of the same shape to be hovered over."""
    values = np.full((lags + 1, len(curves)), np.nan, dtype=np.float32)
    for column, curve in enumerate(curves):
        told = curve[: lags + 1]
        values[: len(told), column] = [-math.inf if value is None else value for value in told]
    shown = np.where(np.isneginf(values), np.float32(FAINTEST - 1), values)
    step_of, lag_of = np.meshgrid(np.array(steps, dtype=np.int32), np.arange(lags + 1, dtype=np.int16))
    source = ColumnDataSource(
        {
            "log10": [shown],
            "step": [np.ascontiguousarray(step_of)],
            "lag": [np.ascontiguousarray(lag_of)],
            "x": [-0.5],
            "y": [-0.5],
            "dw": [len(curves)],
            "dh": [lags + 1],
        }
    )
    image = made.image("log10", "x", "y", "dw", "dh", source=source, color_mapper=mapper)
    hover(made, [image], [("updates", "@step{0,0}"), ("lag", "@lag"), ("log10 of the gradient", "@log10{0.00}")])


def _frontier(made: Any, history: GradientHistory, layer: str) -> None:
    """The reach as a line over the columns, on a halo that keeps it visible on any colour."""
    reach = history.reach[layer]
    told = [(place, value) for place, value in enumerate(reach) if value is not None]
    if not told:
        return
    x, y = [place for place, _ in told], [value for _, value in told]
    halo = made.line(x, y, line_width=6, line_alpha=0.75, line_join="round")
    themed(halo.glyph, line_color=PAGE)
    front = made.line(x, y, line_width=2.5, line_join="round")
    themed(front.glyph, line_color=FRONT)
    dots = made.scatter(x, y, size=6, line_width=1.5)
    themed(dots.glyph, fill_color=FRONT, line_color=PAGE)
    place, value = told[-1]
    high = value > 0.9 * made.y_range.end
    _tag(made, place + 0.45, value, f"reach {_reach_text(value, history.censored[layer][place])}", FRONT, below=high)


def _levels(made: Any, levels: dict[str, int | None], lags: int, front: Sequence[int]) -> None:
    """Horizontal lines at the window and at what the data need; their labels keep clear of the front's beginning."""
    dashes = {"window": "dotted", "need": "dashed"}
    inks = {"window": PLUM, "need": GREEN}
    for name, level in levels.items():
        if level is None or level > lags:
            continue
        halo = Span(location=level, dimension="width", line_width=5, line_alpha=0.6)
        themed(halo, line_color=PAGE)
        span = Span(location=level, dimension="width", line_dash=dashes[name], line_width=2)
        themed(span, line_color=inks[name])
        made.renderers.extend([halo, span])
        over = front if name == "window" else (*front, *filter(None, [levels["window"]]))
        crowded = any(0 <= value - level < 0.1 * lags for value in over)
        _tag(made, -0.45, level, f"{name} {level}", inks[name], right=False, below=crowded or level > 0.93 * lags)


def _tag(made: Any, x: float, y: float, text: str, ink: Ink, *, right: bool = True, below: bool = False) -> None:
    """A label beside a line, on a patch of the page's colour."""
    note(
        made,
        x,
        y,
        text,
        ink,
        text_font_size=LABEL,
        text_font_style="bold",
        text_align="right" if right else "left",
        text_baseline="top" if below else "bottom",
        x_offset=-4 if right else 4,
        y_offset=-4 if below else 4,
        background_fill_color=PAGE,
        background_fill_alpha=0.8,
        border_radius=3,
        padding=2,
    )


def lags_shown(history: GradientHistory, layer: str, need: int | None) -> int:
    """As many as hold something to see: a third beyond what is needed, reached or trained through."""
    longest = max((len(curve) for curve in history.layers[layer]), default=1) - 1
    marks = [value for value in (need, history.window, *history.reach[layer]) if value is not None]
    return max(1, min(longest, max(_FEWEST_LAGS, math.ceil(1.25 * max(marks, default=0)))))


def _sentence(history: GradientHistory, layer: str, need: int | None, use: int | None) -> str:
    reach, censored = history.reach[layer], history.censored[layer]
    first, last = (_reach_text(reach[i], censored[i]) for i in (0, -1))
    begin = "Before training" if history.steps[0] == 0 else f"After {counted(history.steps[0], 'update')}"
    sentence = f"{begin} the gradient reached back {first} steps"
    if len(history.steps) > 1:
        sentence += f"; after {counted(history.steps[-1], 'update')} it reaches {last}"
    if history.window is not None:
        sentence += f". The gradient is computed through windows of {history.window} steps"
    if need is not None:
        sentence += f". The data need {need}"
    if use is not None:
        sentence += f", and the trained network uses {use}"
    columns = "" if len(history.steps) == 1 else " A column is one measurement."
    return f"{sentence}.{columns} The line marks the largest lag at which at least 1 % of the gradient is left."


def _band(made: Any, lags: list[int], profile: LagProfile, ink: Ink) -> None:
    quartiles = [
        (lag, low, high) for lag, (low, _, high) in zip(lags, profile.spread, strict=True) if None not in (low, high)
    ]
    if quartiles:
        area = made.varea(*([row[place] for row in quartiles] for place in range(3)), fill_alpha=0.15)
        themed(area.glyph, fill_color=ink)


def _threshold(made: Any) -> None:
    level = math.log10(REACH_SHARE)
    span = Span(location=level, dimension="width", line_dash="dashed", line_width=1)
    themed(span, line_color=MUTED)
    made.renderers.append(span)
    note(made, 0, level, "1 %: as far as this, it reaches", MUTED)


def _at_lags(curve: Sequence[float | None]) -> tuple[str | float | None, ...]:
    """Of some lags; a gradient of zero is minus infinity."""
    return tuple(None if lag >= len(curve) else "−∞" if curve[lag] is None else curve[lag] for lag in _TOLD_LAGS)


def _reach_text(reach: int | None, censored: bool) -> str:
    return "unknown" if reach is None else f"{'≥ ' if censored else ''}{reach}"
