"""One page about several runs: side by side what each of them has on a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange

from throughtime.reporting.chart import chart, hover, labelled, line
from throughtime.reporting.gradient import gradient_heat_map
from throughtime.reporting.ink import BLUE, SERIES, themed
from throughtime.reporting.origin import origin_html
from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Picture, Table, table_html
from throughtime.reporting.run_files import RunFiles
from throughtime.reporting.verdict import missing

__all__ = ["several_page"]


def several_page(title: str, runs: Sequence[RunFiles], comparison: Mapping[str, Any] | None = None) -> str:
    """The text of an HTML file.

    Args:
        title: of the page.
        runs: in the order in which they are to stand.
        comparison: what `throughtime compare` wrote, with the 5-gram's row and the filled sentences.
    """
    sections = [_scores(runs, comparison), _losses(runs), _gradients(runs)]
    if comparison is not None and comparison.get("filled"):
        sections.append(Section("Blanks in real sentences", _filled(comparison["filled"])))
    made = "".join(f"<details><summary>{escape(files.name)}</summary>{origin_html(files)}</details>" for files in runs)
    sections.append(Section("How they were made", made))
    return page(title, sections, subtitle=f"{len(runs)} runs")


def _scores(runs: Sequence[RunFiles], comparison: Mapping[str, Any] | None) -> Section:
    """Perplexity as dots, runs as rows; and need, reach and use of each in the table."""
    scores = {row["name"]: row["perplexity"] for row in comparison["rows"]} if comparison is not None else {}
    scores |= {files.name: _perplexity(files) for files in runs if files.name not in scores}
    told = {name: value for name, value in scores.items() if value is not None}
    table = _score_table(runs, scores, comparison)
    if not told:
        return Section("Side by side", f'<div class="card">{table_html(table)}</div>')
    names = sorted(told, key=lambda name: told[name])
    made = chart(
        x_label="perplexity of the next word, on the test text",
        y_label="",
        height=90 + 30 * len(names),
        y_range=FactorRange(factors=names[::-1]),
        x_axis_type="log",
    )
    source = ColumnDataSource({"name": names, "perplexity": [told[name] for name in names]})
    dots = made.scatter(x="perplexity", y="name", source=source, size=11, line_color=None)
    themed(dots.glyph, fill_color=BLUE)
    hover(made, [dots], [("", "@name"), ("perplexity", "@perplexity{0.0}")])
    best, worst = names[0], names[-1]
    sentence = f"{best} has the lowest perplexity, {told[best]:,.1f}, and {worst} the highest, {told[worst]:,.1f}."
    return Section("Side by side", pictures=[Picture("scores", "Perplexity", sentence, made, table)])


def _score_table(
    runs: Sequence[RunFiles], scores: Mapping[str, float | None], comparison: Mapping[str, Any] | None
) -> Table:
    memory = {files.name: files.steps_of_memory for files in runs}
    hits = {row["name"]: row for row in comparison["rows"]} if comparison is not None else {}
    rows = []
    for name, perplexity in scores.items():
        row = hits.get(name, {})
        asked = [row.get(kind) or {} for kind in ("next_word", "blank")]
        steps = [memory.get(name, {}).get(kind) for kind in ("need", "reach", "use")]
        rows.append((name, perplexity, *steps, *(_percent(found.get("top1")) for found in asked)))
    return Table(("", "perplexity", "need", "reach", "use", "next word right", "blank right"), tuple(rows))


def _losses(runs: Sequence[RunFiles]) -> Section:
    """Validation by minutes of training, so that equal budgets are seen as equal."""
    drawn = [files for files in runs if files.evaluations and files.steps]
    if not drawn:
        return Section("Training", missing("None of the runs has been evaluated yet."))
    made = chart(x_label="minutes of training", y_label="validation perplexity", height=320, y_axis_type="log")
    lines, rows = [], []
    for files, ink in zip(drawn, SERIES * len(drawn), strict=False):
        seconds = {found["step"]: found["seconds"] for found in files.steps}
        head = files.evaluations[0]["head"]
        told = [found for found in files.evaluations if found["head"] == head and found["step"] in seconds]
        minutes = [seconds[found["step"]] / 60 for found in told]
        values = [found["perplexity"] for found in told]
        drawn_line = line(made, minutes, {"perplexity": values, "name": [files.name] * len(told)}, ink)
        lines.append((files.name, drawn_line))
        rows.append((files.name, head, min(values, default=None), minutes[-1] if minutes else None))
    labelled(made, lines)
    hover(made, [d for _, d in lines], [("", "@name"), ("minutes", "@x{0.00}"), ("perplexity", "@perplexity{0.0}")])
    table = Table(("", "asked for", "best", "minutes"), tuple(rows))
    sentence = "How the perplexity of the validation text falls with training time; a blank is easier than a next word."
    return Section("Training", pictures=[Picture("validation", "Validation", sentence, made, table)])


def _gradients(runs: Sequence[RunFiles]) -> Section:
    """A heat map each, and for those that have none the reason."""
    pictures, reasons = [], []
    for number, files in enumerate(runs):
        if files.history is None:
            reasons.append(f"{files.name}: {files.missing['history']}.")
            continue
        told = files.steps_of_memory
        picture = gradient_heat_map(files.history, need=told.get("need"), use=told.get("use"))
        pictures.append(replace(picture, name=f"{picture.name}-{number}", title=f"{files.name}, {picture.title}"))
    return Section("Gradient through time", missing(*reasons), pictures)


def _filled(sentences: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for sentence in sentences for name in sentence["guesses"]))
    rows = tuple(
        (sentence["sentence"], sentence["answer"], *(sentence["guesses"].get(name) for name in names))
        for sentence in sentences
    )
    return f'<div class="card">{table_html(Table(("sentence", "there stood", *names), rows))}</div>'


def _perplexity(files: RunFiles) -> float | None:
    found = (files.outcome.get("test") or {}).get("next")
    return None if found is None else float(found["perplexity"])


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"
