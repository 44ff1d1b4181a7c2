"""One page about several runs: side by side what each of them has on a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange

from throughtime.reporting.chart import chart, hover, labelled, line
from throughtime.reporting.gradient import gradient_heat_map
from throughtime.reporting.ink import BLUE, SERIES, themed
from throughtime.reporting.origin import origin_html
from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Cell, Picture, Table, table_html
from throughtime.reporting.run_files import RunFiles
from throughtime.reporting.verdict import folded, missing

__all__ = ["several_page"]

_CAPTION = (
    "Perplexity: of the next word, over the whole test text; context: what is read of earlier text. Next 1, next 5: "
    "how often the next word was thought likeliest, or among the five likeliest, at the same random words; blank 1, "
    "blank 5: the same words as blanks. Words/s: in training, of the 5-gram in counting."
)


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
    made = "".join(folded(files.name, origin_html(files)) for files in runs)
    sections.append(Section("How they were made", made))
    return page(title, sections, subtitle=f"{len(runs)} runs")


def _scores(runs: Sequence[RunFiles], comparison: Mapping[str, Any] | None) -> Section:
    """Perplexity as dots, runs as rows; and a table of all that is known of each."""
    known = _known(runs, comparison)
    caption = _CAPTION if comparison is not None else ""
    table = f'<div class="card">{table_html(_score_table(known), caption=caption)}{_why_no_diagnosis(runs)}</div>'
    told = {name: value for name, found in known.items() if isinstance(value := found["perplexity"], float)}
    if not told:
        return Section("Side by side", table)
    names = sorted(told, key=lambda name: told[name])
    made = chart(
        x_label="test perplexity of the next word",
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
    sentence += "".join(_why_no_dot(files) for files in runs if files.name not in told)
    numbers = Table(("", "perplexity"), tuple((name, told[name]) for name in names))
    return Section("Side by side", pictures=[Picture("scores", "Perplexity", sentence, made, numbers)], after=table)


def _known(runs: Sequence[RunFiles], comparison: Mapping[str, Any] | None) -> dict[str, dict[str, Cell]]:
    """By name, for each column what stands in it."""
    compared = {row["name"]: row for row in comparison["rows"]} if comparison is not None else {}
    files_of = {files.name: files for files in runs}
    return {name: _cells(compared.get(name, {}), files_of.get(name)) for name in dict.fromkeys((*compared, *files_of))}


def _cells(row: Mapping[str, Any], files: RunFiles | None) -> dict[str, Cell]:
    asked = {head: row.get(name) or {} for head, name in (("next", "next_word"), ("blank", "blank"))}
    test, memory = ({}, {}) if files is None else (files.outcome.get("test") or {}, _steps_of_memory(files))
    outcome = {} if files is None else files.outcome
    seconds = row.get("seconds", outcome.get("seconds"))
    words = row.get("words_per_second", outcome.get("words_per_second"))
    carried = row.get("context_carried")
    context = None if carried is None else "carried" if carried else "sentence" if files is None else "window"
    return {
        "perplexity": row.get("perplexity", test.get("next", {}).get("perplexity")),
        "blank perplexity": test.get("blank", {}).get("perplexity"),
        "context": context,
        **{f"{head} {top}": _percent(found.get(f"top{top}")) for head, found in asked.items() for top in (1, 5)},
        **{name: memory.get(name) for name in ("need", "reach", "use")},
        "diagnosis": None if files is None else _diagnosed(files),
        "words/s": None if words is None else round(words),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def _score_table(known: Mapping[str, Mapping[str, Cell]]) -> Table:
    """Without the columns of which nothing is known."""
    columns = list(dict.fromkeys(column for found in known.values() for column in found))
    kept = [column for column in columns if any(found[column] is not None for found in known.values())]
    return Table(("", *kept), tuple((name, *(found[column] for column in kept)) for name, found in known.items()))


def _steps_of_memory(files: RunFiles) -> Mapping[str, int | None]:
    """Need, reach and use; where there is no diagnosis, the reach at the last look that training took."""
    told = files.steps_of_memory
    if told or files.history is None:
        return told
    return {"reach": files.history.reach[files.history.top][-1]}


def _diagnosed(files: RunFiles) -> str | None:
    if files.diagnosis is None:
        return None
    codes = [finding.code for finding in files.diagnosis.findings if finding.severity == "error"]
    return "healthy" if files.diagnosis.healthy else ", ".join(codes)


def _why_no_diagnosis(runs: Sequence[RunFiles]) -> str:
    """Of the first run that could have one, where none has."""
    if any(files.diagnosis is not None for files in runs):
        return ""
    reasons = (files.missing.get("diagnosis", "") for files in runs if files.history is not None)
    return missing(*(f"No diagnosis: {reason}." for reason in list(reasons)[:1]))


def _why_no_dot(files: RunFiles) -> str:
    cloze = files.recipe is not None and files.recipe.model == "cloze"
    return f" {files.name} {'fills blanks, and has no next word' if cloze else 'has not been tested yet'}."


def _losses(runs: Sequence[RunFiles]) -> Section:
    """Validation by minutes of training, so that equal budgets are seen as equal."""
    drawn = [files for files in runs if files.evaluations and files.steps]
    if not drawn:
        return Section("Training", missing("None of the runs has been evaluated yet."))
    made = chart(x_label="minutes of training", y_label="validation perplexity", height=320, y_axis_type="log")
    made.x_range.start = 0  # else runs that were evaluated once, at the end, look minutes apart
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
    return Section("Training", pictures=[Picture("validation", "Validation", _best_told(rows), made, table)])


def _best_told(rows: Sequence[tuple[str, str, float | None, float | None]]) -> str:
    """Who gets lowest, of each question apart: blanks are easier than next words."""
    told = ["The perplexity of the validation text by training time."]
    for head, what in (("next", "the next word"), ("blank", "a blank, which is easier")):
        best = sorted((value, name) for name, asked, value, _ in rows if asked == head and value is not None)
        if best:
            (low, first), (high, last) = best[0], best[-1]
            rest = f", and {last} to {high:,.1f}" if len(best) > 1 else ""
            told.append(f"Asked for {what}, {first} comes {'lowest, ' if rest else ''}to {low:,.1f}{rest}.")
    return " ".join(told)


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


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"
