"""What a network makes of words: a table beside the 5-gram, shaded sentences, and where in the text it is surprised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange
from bokeh.transform import dodge

from throughtime.reporting.chart import chart, hover, labelled
from throughtime.reporting.ink import BLUE, MUTED, themed
from throughtime.reporting.picture import Picture, Table, table_html
from throughtime.reporting.text_record import TextRecord

__all__ = ["STRONGEST", "perplexity_pictures", "predictors_table", "shaded_sentences"]

STRONGEST = 0.55
"""Opacity of the shading of the word that matters most: the word on it stays legible, light and dark."""
_MOST_LETTERS = 36
"""Of all labels of an axis, that a phone has room for side by side."""


def predictors_table(record: TextRecord) -> str:
    """The network beside the counting model, in HTML."""
    columns = ("", "perplexity", "context", "next 1", "next 5", "blank 1", "blank 5")
    hits = ("next_top1", "next_top5", "blank_top1", "blank_top5")
    rows = tuple(
        (row["name"], row["perplexity"], row["context"], *(_percent(row[name]) for name in hits)) for row in record.rows
    )
    at = {head: record.rows[0].get(f"{head}_words") if record.rows else None for head in ("next", "blank")}
    told = {head: "random words" if number is None else f"{number:,} random words" for head, number in at.items()}
    caption = (
        f"On {record.num_words:,} words of the test text, {100 * record.unknown_rate:.1f} % of them unknown. next 1, "
        f"next 5: how often the next word was thought likeliest, or among the five likeliest, at {told['next']}; "
        f"blank 1, blank 5: the same of {told['blank']} as blanks."
    )
    return f'<div class="card">{table_html(Table(columns, rows), caption=caption)}</div>'


def shaded_sentences(blanks: Sequence[Mapping[str, Any]]) -> str:
    """Sentences with a blank, each word shaded by what it does to the likeliest answer, in HTML.

    Whatever comes from the text is escaped.
    """
    if not blanks:
        return ""
    legend = (
        '<p class="answer">Each word is shaded by gradient times input: <span class="sentence"><span class="word" '
        'style="--weight:0.5">for</span> <span class="word against" style="--weight:0.5">against</span></span> the '
        "guess in the frame. The numbers hold what leaving a word out costs, which is the check on it.</p>"
    )
    return f'<div class="card"><h3>Blanks in real sentences</h3>{legend}{"".join(map(_shaded, blanks))}</div>'


def perplexity_pictures(record: TextRecord) -> list[Picture]:
    """By the place in the sentence, and by how often a word stands in the training text."""
    found = []
    if record.by_place:
        title, told = "Perplexity by the place in the sentence", "place {} of a sentence"
        found.append(_bars("by-place", title, "place in the sentence", record.by_place, told))
    if record.by_frequency:
        title, told = "Perplexity by the frequency of the word", "words that stand {} times in the training text"
        found.append(_bars("by-frequency", title, "times in the training text", record.by_frequency, told))
    return found


def _shaded(blank: Mapping[str, Any]) -> str:
    words, place, guesses = blank["words"], blank["blank"], blank["guesses"]
    values = [value or 0.0 for value in blank["influence"]]
    largest = max((abs(value) for value in values), default=0.0) or 1.0
    parts = []
    for at, (word, value, left_out) in enumerate(zip(words, values, blank["left_out"], strict=True)):
        if at == place:
            parts.append(f'<span class="blank">{escape(guesses[0][0])}</span>')
            continue
        side = " against" if value < 0 else ""
        said = f"{value:+.3f} nats" + ("" if left_out is None else f"; left out {left_out:+.3f}")
        weight = STRONGEST * abs(value) / largest
        parts.append(f'<span class="word{side}" style="--weight:{weight:.2f}" title="{said}">{escape(word)}</span>')
    others = ", ".join(f"“{escape(word)}”&nbsp;{100 * share:.1f}&nbsp;%" for word, share in guesses)
    agreement = blank.get("agreement")
    agrees = "" if agreement is None else f"; rank correlation with leaving words out {agreement:+.2f}"
    rows = tuple((word, blank["influence"][at], blank["left_out"][at]) for at, word in enumerate(words) if at != place)
    numbers = table_html(Table(("word", "gradient × input, nats", "left out, nats"), rows))
    return (
        f'<p class="sentence">{" ".join(parts)}</p>'
        f'<p class="answer">there stood “<b>{escape(words[place])}</b>”; guessed: {others}{agrees}</p>'
        f"<details><summary>Numbers</summary>{numbers}</details>"
    )


def _bars(name: str, title: str, label: str, rows: Sequence[Mapping[str, Any]], told: str) -> Picture:
    """Bars side by side for each bin; `told` says in the sentence what a bin is."""
    bins = [row["bin"] for row in rows]
    predictors = list(dict.fromkeys(key for row in rows for key in row["perplexity"]))
    made = chart(x_label=label, y_label="perplexity", height=260, x_range=FactorRange(factors=bins), y_axis_type="log")
    low = min(value for row in rows for value in row["perplexity"].values())
    bars = []
    for number, (predictor, ink) in enumerate(zip(predictors, (BLUE, MUTED), strict=False)):
        source = ColumnDataSource(
            {
                "bin": bins,
                "perplexity": [row["perplexity"][predictor] for row in rows],
                "words": [row["num_words"] for row in rows],
                "who": [predictor] * len(rows),
            }
        )
        shift = 0.2 * (2 * number - 1) if len(predictors) > 1 else 0.0
        bar = made.vbar(
            x=dodge("bin", shift, range=made.x_range),
            top="perplexity",
            bottom=min(1.0, low),
            width=0.36,
            source=source,
            line_color=None,
            border_radius=2,
        )
        themed(bar.glyph, fill_color=ink)
        bars.append((predictor, bar))
    if sum(len(name) + 2 for name in bins) > _MOST_LETTERS:
        made.xaxis.major_label_orientation = 0.7
    labelled(made, bars)
    hover(
        made,
        [bar for _, bar in bars],
        [("", "@who"), (label, "@bin"), ("perplexity", "@perplexity{0.0}"), ("words", "@words{0,0}")],
    )
    ordered = sorted((row["perplexity"][predictors[0]], row["bin"]) for row in rows)
    (low, best), (high, worst) = ordered[0], ordered[-1]
    sentence = (
        f"The perplexity of the {predictors[0]} is lowest for {told.format(best)}, {_rounded(low)}, "
        f"and highest for {told.format(worst)}, {_rounded(high)}."
    )
    table = Table(
        (label, "words", *predictors),
        tuple((row["bin"], row["num_words"], *(row["perplexity"].get(key) for key in predictors)) for row in rows),
    )
    return Picture(name, title, sentence, made, table)


def _rounded(perplexity: float) -> str:
    return f"{perplexity:,.1f}" if perplexity < 1000 else f"{perplexity:,.0f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"
