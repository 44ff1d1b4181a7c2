"""The spectrum of a network's recurrences as pictures: exponents, singular values, saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, FixedTicker, LinearColorMapper, Range1d
from bokeh.models.annotations import Span

from throughtime.measurement import LayerSpectrum, SpectrumRecord
from throughtime.reporting.chart import chart, colour_bar, hover, labelled, line
from throughtime.reporting.gradient import layer_title
from throughtime.reporting.ink import ACCENT, BLUE, HEAT, MUTED, SERIES, themed
from throughtime.reporting.picture import Picture, Table, capital

__all__ = ["exponents_picture", "saturation_map", "saturation_picture", "singular_values_picture"]

_TOLD_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the sequence, at which the table tells the saturation."""


def exponents_picture(record: SpectrumRecord) -> Picture | None:
    """Lyapunov exponents of every layer, with their intervals; None where none could be told."""
    told = {title: layer for title, layer in _titled(record).items() if any(e is not None for e in layer.exponents)}
    if not told:
        return None
    made = chart(x_label="number of the exponent", y_label="nats per step", height=260)
    zero = Span(location=0, dimension="width", line_width=1.5)
    themed(zero, line_color=MUTED)
    made.renderers.append(zero)
    drawn = []
    for (title, layer), ink in zip(told.items(), SERIES * len(told), strict=False):
        places = list(range(1, len(layer.exponents) + 1))
        bars = [
            (place, value - error, value + error)
            for place, value, error in zip(places, layer.exponents, layer.exponent_errors, strict=True)
            if value is not None and error is not None
        ]
        if bars:
            whiskers = made.segment(*([bar[i] for bar in bars] for i in (0, 1, 0, 2)), line_width=1.5, line_alpha=0.6)
            themed(whiskers.glyph, line_color=ink)
        drawn.append((title, line(made, places, {"exponent": layer.exponents}, ink)))
    labelled(made, drawn)
    hover(made, [d for _, d in drawn], [("number", "@x"), ("nats per step", "@exponent{0.0000}")], mode="vline")
    longest = max(len(layer.exponents) for layer in told.values())
    rows = tuple((title, *_padded(layer.exponents, longest)) for title, layer in told.items())
    columns = ("layer", *(f"exponent {number}" for number in range(1, longest + 1)))
    sentence = capital("; ".join(_leading(title, layer) for title, layer in told.items()) + ".")
    return Picture("exponents", "Lyapunov exponents", sentence, made, Table(columns, rows))


def singular_values_picture(record: SpectrumRecord) -> Picture | None:
    """Singular values of single steps' Jacobians, the median with quartiles; None where none could be told."""
    told = {title: layer for title, layer in _titled(record).items() if layer.step_singular_values}
    if not told:
        return None
    made = chart(x_label="number of the singular value", y_label="singular value", height=260)
    one = Span(location=1, dimension="width", line_width=1.5)
    themed(one, line_color=MUTED)
    made.renderers.append(one)
    drawn, rows = [], []
    for (title, layer), ink in zip(told.items(), SERIES * len(told), strict=False):
        low, middle, high = _quartiles(layer)
        places = list(range(1, len(middle) + 1))
        themed(made.varea(places, low, high, fill_alpha=0.15).glyph, fill_color=ink)
        drawn.append((title, line(made, places, {"value": middle}, ink)))
        rows.append((title, middle[0], middle[-1], layer.step_mean_square))
    labelled(made, drawn)
    hover(made, [d for _, d in drawn], [("number", "@x"), ("median", "@value{0.000}")], mode="vline")
    made.y_range = Range1d(start=0.0, end=1.08 * max(1.0, *(max(_quartiles(layer)[2]) for layer in told.values())))
    sentence = (
        "Of the Jacobian of one step; where it is 1, a change of the state is handed on as large as it came. "
        + capital("; ".join(f"in {row[0]} the largest is {row[1]:.2f} at the median step" for row in rows))
    )
    columns = ("layer", "largest, median", "smallest shown, median", "mean square of all")
    return Picture("singular-values", "Singular values", sentence + ".", made, Table(columns, tuple(rows)))


def saturation_picture(record: SpectrumRecord) -> Picture | None:
    """How much of the time units and gates sit in their flat ends; None where there are none."""
    ends = [
        (f"{title}: {unit}", 100 * low, 100 * high)
        for title, layer in _titled(record).items()
        for unit, (low, high) in (layer.saturation or {}).items()
    ]
    if not ends:
        return None
    names = [name for name, _, _ in ends]
    made = chart(
        x_label="lower end – % of units – upper end",
        y_label="",
        height=70 + 26 * len(names),
        y_range=FactorRange(factors=names[::-1]),
        x_range=(-100, 100),
    )
    made.xaxis.ticker = FixedTicker(ticks=[-100, -50, 0, 50, 100])
    made.xaxis.major_label_overrides = {-100: "100", -50: "50"}
    bars = []
    for place, ink in ((1, BLUE), (2, ACCENT)):
        shares = [low if place == 1 else high for _, low, high in ends]
        source = ColumnDataSource({"name": names, "share": shares, "right": [-s if place == 1 else s for s in shares]})
        bar = made.hbar(y="name", left=0, right="right", height=0.6, source=source, line_color=None)
        themed(bar.glyph, fill_color=ink)
        bars.append((("lower end", "upper end")[place - 1], bar))
    labelled(made, bars)
    hover(made, [bar for _, bar in bars], [("", "@name"), ("share", "@share{0.0} %")])
    name, low, high = max(ends, key=lambda row: row[1] + row[2])
    sentence = f"Most saturated is {name}, {low:.0f} % of the time at its lower and {high:.0f} % at its upper end."
    table = Table(("unit or gate", "lower end, %", "upper end, %"), tuple(ends))
    return Picture("saturation", "Saturation", sentence, made, table)


def saturation_map(record: SpectrumRecord) -> Picture | None:
    """The same from step to step of the sequence, a row for each unit or gate; None where it was not kept."""
    rows = [
        (f"{title}: {unit}", 100 * np.array(shares, dtype=np.float32))
        for title, layer in _titled(record).items()
        for unit, shares in (layer.saturation_by_step or {}).items()
    ]
    if not rows:
        return None
    num_steps = max(len(shares) for _, shares in rows)
    made = chart(
        x_label="step of the sequence",
        y_label="",
        height=110 + 22 * len(rows),
        x_range=(0.5, num_steps + 0.5),
        y_range=(len(rows) - 0.5, -0.5),  # the first on top
    )
    made.ygrid.grid_line_color = None
    made.yaxis.ticker = FixedTicker(ticks=list(range(len(rows))))
    made.yaxis.major_label_overrides = {place: name for place, (name, _) in enumerate(rows)}
    _shares_by_step(made, rows)
    steps = sorted({round(share * (num_steps - 1)) for share in _TOLD_SHARES})
    table = Table(
        ("unit or gate", *(f"step {step + 1}, %" for step in steps)),
        tuple((name, *(float(s[step].sum()) if step < len(s) else None for step in steps)) for name, s in rows),
    )
    return Picture("saturation-by-step", "Saturation from step to step", _change(rows), made, table)


def _shares_by_step(made: Any, rows: Sequence[tuple[str, Any]]) -> None:
    """An image for each row, of both ends together; each of them can be hovered over."""
    mapper = LinearColorMapper(low=0.0, high=100.0, palette=HEAT.light)
    themed(mapper, palette=HEAT)
    source = ColumnDataSource(
        {
            "name": [name for name, _ in rows],
            "both": [shares.sum(1)[None] for _, shares in rows],
            "low": [np.ascontiguousarray(shares[:, 0])[None] for _, shares in rows],
            "high": [np.ascontiguousarray(shares[:, 1])[None] for _, shares in rows],
            "step": [np.arange(1, len(shares) + 1, dtype=np.int32)[None] for _, shares in rows],
            "y": [place - 0.5 for place in range(len(rows))],
            "length": [len(shares) for _, shares in rows],
        }
    )
    image = made.image("both", x=0.5, y="y", dw="length", dh=1, source=source, color_mapper=mapper)
    ends = [("lower end", "@low{0.0} %"), ("upper end", "@high{0.0} %")]
    hover(made, [image], [("", "@name"), ("step", "@step"), ("saturated", "@both{0.0} %"), *ends])
    colour_bar(made, mapper, "units that are saturated, %")


def _change(rows: Sequence[tuple[str, Any]]) -> str:
    """Between the first quarter of the sequence and the last, of what changes most."""

    def quarters(shares: Any) -> tuple[float, float]:
        length = max(1, len(shares) // 4)
        return float(shares[:length].sum(1).mean()), float(shares[-length:].sum(1).mean())

    name, (first, last) = max(
        ((name, quarters(shares)) for name, shares in rows), key=lambda row: abs(row[1][1] - row[1][0])
    )
    return (
        f"Saturation changes most in {name}: from {first:.0f} % of its units in the first quarter of the sequence to "
        f"{last:.0f} % in the last."
    )


def _titled(record: SpectrumRecord) -> dict[str, LayerSpectrum]:
    """By what a person calls them."""
    found: dict[str, LayerSpectrum] = {}
    for name, layer in record.layers.items():
        title = layer_title(layer.module)
        title = f"layer {layer.layer + 1}" if title == layer.module else title
        title += " backward" if layer.backward else ""
        found[name if title in found else title] = layer
    return found


def _leading(title: str, layer: LayerSpectrum) -> str:
    leading, error = layer.exponents[0], layer.exponent_errors[0]
    if leading is None or error is None:
        return f"in {title} every change of the state is wiped out"
    trend = (
        "neither grows nor fades, as far as can be told"
        if abs(leading) <= error
        else "grows"
        if leading > 0
        else "fades"
    )
    return f"in {title} a small change of the state {trend} ({leading:+.3f} ± {error:.3f} nats a step)"


def _quartiles(layer: LayerSpectrum) -> tuple[list[float], list[float], list[float]]:
    """Low, middle and high of each."""
    low, middle, high = layer.step_singular_values
    return list(low), list(middle), list(high)


def _padded(values: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (*("−∞" if value is None else value for value in values), *(None,) * (length - len(values)))
