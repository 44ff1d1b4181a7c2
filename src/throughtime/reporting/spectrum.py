"""The spectrum of a network's recurrences as pictures: exponents, singular values, saturation."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColumnDataSource, FactorRange
from bokeh.models.annotations import Span

from throughtime.measurement import LayerSpectrum, SpectrumRecord
from throughtime.reporting.chart import chart, hover, labelled, line
from throughtime.reporting.gradient import layer_title
from throughtime.reporting.ink import ACCENT, BLUE, MUTED, SERIES, themed
from throughtime.reporting.picture import Picture, Table, capital

__all__ = ["exponents_picture", "saturation_picture", "singular_values_picture"]


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
    made = chart(x_label="number of the singular value", y_label="of the Jacobian of one step", height=260)
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
    sentence = "At 1 a change of the state is handed on as large as it came; " + "; ".join(
        f"in {row[0]} the largest is {row[1]:.2f} at the median step" for row in rows
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
        x_label="share of units and steps, %: at the lower end to the left, at the upper end to the right",
        y_label="",
        height=70 + 26 * len(names),
        y_range=FactorRange(factors=names[::-1]),
        x_range=(-100, 100),
    )
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
