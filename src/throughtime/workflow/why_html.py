"""The answers of `why` as one HTML file with pictures."""

from __future__ import annotations

from html import escape
from typing import Any

from bokeh.models import ColumnDataSource

from throughtime.reporting import Picture, Section, Table, page
from throughtime.reporting.chart import chart, hover, labelled, line
from throughtime.reporting.ink import SERIES, Ink, themed
from throughtime.workflow.why_record import Answer, Chart, Curve, WhyRecord
from throughtime.workflow.why_words import TITLE, WORDS, origin_of, question_of, sentence_of

__all__ = ["as_html"]

_MARKS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x")


def as_html(record: WhyRecord) -> str:
    """The page: a section for each answer, with its question, its picture, its sentence, the reason and its numbers."""
    return page(TITLE, [_section(answer) for answer in record.answers], subtitle=origin_of(record))


def _section(answer: Answer) -> Section:
    question = question_of(answer)
    table = Table(answer.table.columns, answer.table.rows)
    picture = Picture(answer.key, answer.chart.y_label, sentence_of(answer), _figure(answer.chart), table)
    return Section(question, f"<p>{escape(WORDS[answer.key].reason)}</p>", [picture])


def _figure(drawn: Chart) -> Any:
    made = chart(
        x_label=drawn.x_label, y_label=drawn.y_label, height=300, x_axis_type="log" if drawn.log_x else "linear"
    )
    entries = []
    for place, curve in enumerate(drawn.curves):
        ink = SERIES[place % len(SERIES)]
        if drawn.joined:
            entries.append((curve.name, line(made, curve.x, {"value": curve.y}, ink)))
        else:
            entries.append((curve.name, _points(made, curve, _MARKS[place % len(_MARKS)], ink)))
    labelled(made, entries)
    tooltips = [(drawn.x_label, "@x{0,0.[000]}"), (drawn.y_label, "@value{0,0.000}")]
    hover(made, [renderer for _, renderer in entries], tooltips)
    return made


def _points(made: Any, curve: Curve, mark: str, ink: Ink) -> Any:
    """Hollow, and larger than a line is wide, so that one behind another is seen."""
    source = ColumnDataSource({"x": list(curve.x), "value": list(curve.y)})
    points = made.scatter("x", "value", source=source, marker=mark, size=12, fill_alpha=0.15, line_width=2)
    themed(points.glyph, line_color=ink, fill_color=ink)
    return points
