"""Need, reach and use as three bars on one axis of lags."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bokeh.core.properties import value as constant
from bokeh.models import ColumnDataSource, FactorRange
from bokeh.models.annotations import Span

from throughtime.diagnosis import Diagnosis
from throughtime.measurement import HorizonsRecord
from throughtime.reporting.chart import FONT, LABEL, chart, hover, note
from throughtime.reporting.ink import ACCENT, BLUE, GREEN, PLUM, TEXT, themed
from throughtime.reporting.picture import Picture, Table, counted
from throughtime.trial import Treatment

__all__ = ["horizon_bars", "horizons_picture", "measured_horizons"]

_MEANINGS = {
    "need": "how far back the data hold something about the target",
    "reach": "how far back at least 1 % of the gradient is left",
    "use": "how far back the trained network makes use of its inputs",
}
_INKS = {"need": GREEN, "reach": ACCENT, "use": BLUE}


def horizons_picture(record: HorizonsRecord) -> Picture:
    """Of a record."""
    steps = {"need": record.need, "reach": record.reach, "use": record.use}
    return horizon_bars(steps, censored=record.censored)


def measured_horizons(record: Diagnosis | Treatment) -> Picture | None:
    """Those of a diagnosis or a trial; None where none was measured."""
    told = any(value is not None for value in record.horizons.values())
    return horizon_bars(record.horizons, censored=record.censored) if told else None


def horizon_bars(
    steps: Mapping[str, int | None], *, window: int | None = None, censored: Collection[str] = ()
) -> Picture:
    """Three bars, and the training window as a line.

    Args:
        steps: by "need", "reach" and "use"; None where it cannot be told.
        window: steps of truncated backpropagation through time.
        censored: those that may be larger than what was seen.
    """
    names = list(_MEANINGS)
    told = {name: steps.get(name) for name in names}
    longest = max([value for value in (*told.values(), window) if value is not None], default=1)
    made = chart(
        x_label="steps back",
        y_label="",
        height=190,
        y_range=FactorRange(factors=names[::-1]),
        x_range=(0, max(1.0, 1.18 * longest)),
    )
    made.yaxis.axis_line_color = None
    made.ygrid.visible = False  # a line through the number of a bar of no length
    made.yaxis.major_tick_line_color = None
    made.yaxis.major_label_text_font_size = LABEL
    bars = []
    for name, value in told.items():
        text = "cannot tell" if value is None else f"{'≥ ' if name in censored else ''}{value}"
        source = ColumnDataSource({"name": [name], "steps": [value or 0], "text": [text], "what": [_MEANINGS[name]]})
        bar = made.hbar(y="name", right="steps", left=0, height=0.56, source=source, line_color=None, border_radius=3)
        themed(bar.glyph, fill_color=_INKS[name])
        words = made.text(
            x="steps",
            y="name",
            text="text",
            source=source,
            x_offset=7,
            text_baseline="middle",
            text_font=constant(FONT),
            text_font_size="13px",
        )
        themed(words.glyph, text_color=TEXT)
        bars.append(bar)
    if window is not None:
        span = Span(location=window, dimension="height", line_dash="dotted", line_width=2)
        themed(span, line_color=PLUM)
        made.renderers.append(span)
        top = len(names) - 0.02
        note(made, window, top, f"window {window}", PLUM, text_align="right", text_baseline="top", x_offset=-4)
    hover(made, bars, [("", "@name: @text"), ("", "@what")])
    rows = tuple((name, told[name], _MEANINGS[name]) for name in names)
    return Picture(
        "horizons", "Need, reach and use", _sentence(told, window, censored), made, Table(("", "steps", "what"), rows)
    )


def _sentence(told: Mapping[str, int | None], window: int | None, censored: Collection[str]) -> str:
    least = {name: "at least " if name in censored else "" for name in told}
    words = {name: "an unknown number" if value is None else f"{least[name]}{value}" for name, value in told.items()}
    need = f"{words['need']} of steps" if told["need"] is None else least["need"] + counted(told["need"], "step")
    sentence = f"The data need {need} of memory; the gradient reaches {words['reach']}; the network uses {words['use']}"
    return sentence + (f"; it is trained through windows of {window}." if window is not None else ".")
