"""What inputs at each lag are worth: to the target, and to a trained model."""

from __future__ import annotations

from typing import Any

from bokeh.models.annotations import Span

from throughtime.measurement import NeedRecord, UseRecord
from throughtime.reporting.chart import chart, hover, line
from throughtime.reporting.ink import BLUE, GREEN, MUTED, themed
from throughtime.reporting.picture import Picture, Table, capital

__all__ = ["need_picture", "use_picture"]


def need_picture(record: NeedRecord) -> Picture | None:
    """How much of the target the inputs up to each lag explain; None where no lag was found to matter."""
    if not record.lags:
        return None
    made = chart(x_label="lag (steps back)", y_label=f"explained {record.unit} of the target, %", height=260)
    shares = [100 * share for share in record.explained]
    drawn = line(made, record.lags, {"share": shares}, GREEN)
    dots = made.scatter("x", "share", source=drawn.data_source, size=7, line_color=None)
    themed(dots.glyph, fill_color=GREEN)
    hover(made, [dots], [("inputs up to lag", "@x"), ("explain", "@share{0.0} %")])
    if record.need is not None:
        _mark(made, record.need)
    table = Table(("lag", "explained up to here, %"), tuple(zip(record.lags, shares, strict=True)))
    return Picture("need", "What the data need", capital(record.reason) + ".", made, table)


def use_picture(record: UseRecord) -> Picture | None:
    """How much worse the model gets without the inputs older than each lag; None where none was tried."""
    if not record.lags:
        return None
    made = chart(x_label="inputs older than this replaced", y_label="loss, % worse", height=260)
    worse = [100 * share for share in record.worse]
    low, high = ([100 * end for end in ends] for ends in zip(*record.interval, strict=True))
    themed(made.varea(list(record.lags), low, high, fill_alpha=0.15).glyph, fill_color=BLUE)
    drawn = line(made, record.lags, {"worse": worse}, BLUE)
    dots = made.scatter("x", "worse", source=drawn.data_source, size=7, line_color=None)
    themed(dots.glyph, fill_color=BLUE)
    hover(made, [dots], [("older than", "@x"), ("worse by", "@worse{0.00} %")])
    if record.use is not None:
        _mark(made, record.use)
    rows = tuple(zip(record.lags, worse, low, high, strict=True))
    table = Table(("older than", "worse, %", "at least", "at most"), rows)
    return Picture("use", "What the network uses", capital(record.reason) + ".", made, table)


def _mark(made: Any, lag: int) -> None:
    span = Span(location=lag, dimension="height", line_dash="dashed", line_width=1.5)
    themed(span, line_color=MUTED)
    made.renderers.append(span)
