"""Trials as pictures: arms as rows, seeds as dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from bokeh.models import ColumnDataSource, FactorRange
from bokeh.models.annotations import Span

from throughtime.reporting.chart import chart, hover, labelled, note
from throughtime.reporting.ink import BLUE, GREEN, MUTED, RED, themed
from throughtime.reporting.picture import Picture, Table

__all__ = ["Arm", "trial_picture"]

_LETTERS = 24
"""Of a name in a line of its own, that a phone has room for beside the dots."""
_MOST_TOLD = 4
"""Arms beside the first that a sentence tells apart; the table has all of them."""


@dataclass(frozen=True)
class Arm:
    """One treatment, over several seeds.

    Attributes:
        name: for a person.
        seeds: that it was trained with.
        scores: of each, the higher the better; None where a training failed.
        learned: whether each reached the target; None where there is no target.
    """

    name: str
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]
    learned: tuple[bool | None, ...]


def trial_picture(arms: Sequence[Arm], *, target: float | None = None, sentence: str = "") -> Picture | None:
    """Each training a dot, at its score; None where no training has one.

    Args:
        arms: the baseline first.
        target: the score that means "learned".
        sentence: what came out; told from the numbers if not given.
    """
    dots = [
        (arm.name, seed, score, learned)
        for arm in arms
        for seed, score, learned in zip(arm.seeds, arm.scores, arm.learned, strict=True)
        if score is not None
    ]
    if not dots:
        return None
    rows_of = {arm.name: "\n".join(wrap(arm.name, _LETTERS)) for arm in arms}
    tallest = max(row.count("\n") + 1 for row in rows_of.values())
    made = chart(
        x_label="score",
        y_label="",
        height=100 + max(30, 8 + 14 * tallest) * len(rows_of),
        y_range=FactorRange(factors=list(rows_of.values())[::-1], factor_padding=0.2),
    )
    groups = []
    for words, wanted, ink in (("learned", True, GREEN), ("did not", False, RED), ("trained", None, BLUE)):
        chosen = [dot for dot in dots if dot[3] is wanted]
        if chosen:
            arm, seed, score = ([dot[place] for dot in chosen] for place in range(3))
            rows = [rows_of[dot[0]] for dot in chosen]
            source = ColumnDataSource({"arm": arm, "row": rows, "seed": seed, "score": score})
            drawn = made.scatter(
                x="score",
                y="row",
                source=source,
                size=10,
                marker="x" if wanted is False else "circle",
                line_width=2,
                fill_alpha=0.7,
            )
            themed(drawn.glyph, fill_color=ink, line_color=ink)
            groups.append((words, drawn))
    if target is not None:
        span = Span(location=target, dimension="height", line_dash="dashed", line_width=1.5)
        themed(span, line_color=MUTED)
        made.renderers.append(span)
        note(made, target, len(rows_of) - 0.05, "target", MUTED, text_baseline="top", text_align="right", x_offset=-4)
    labelled(made, groups)
    hover(made, [drawn for _, drawn in groups], [("", "@arm"), ("seed", "@seed"), ("score", "@score{0.000}")])
    numbers = tuple((arm.name, _num_learned(arm), len(arm.seeds), _mean(arm), *_ends(arm)) for arm in arms)
    table = Table(("arm", "learned", "of seeds", "mean score", "lowest", "highest"), numbers)
    return Picture("trial", "Every seed of every arm", sentence or _told(arms), made, table)


def _told(arms: Sequence[Arm]) -> str:
    if any(None in arm.learned for arm in arms):
        means = {arm.name: mean for arm in arms if (mean := _mean(arm)) is not None}
        best = max(means, key=lambda name: means[name])
        return f"Of {len(arms)} arms {best} has the highest mean score, {means[best]:.4g}."
    first, *others = [(arm.name, sum(map(bool, arm.learned)), len(arm.seeds)) for arm in arms]
    if len(others) > _MOST_TOLD:
        ordered = sorted(others, key=lambda row: (-row[1], row[2]))  # by how many learned, which says how sure that is
        others, rest = ordered[: _MOST_TOLD - 1], ordered[_MOST_TOLD - 1 :]
        num_learned, num_seeds = sum(row[1] for row in rest), sum(row[2] for row in rest)
        more = f"; with the other {len(rest)} arms together {num_learned} of {num_seeds}"
    else:
        more = ""
    told = "".join(f"; with '{name}' {number} of {seeds}" for name, number, seeds in others)
    return f"With '{first[0]}' {first[1]} of {first[2]} seeds learned{told}{more}."


def _num_learned(arm: Arm) -> int | None:
    return None if None in arm.learned else sum(map(bool, arm.learned))


def _mean(arm: Arm) -> float | None:
    told = [score for score in arm.scores if score is not None]
    return sum(told) / len(told) if told else None


def _ends(arm: Arm) -> tuple[float | None, float | None]:
    told = [score for score in arm.scores if score is not None]
    return (min(told), max(told)) if told else (None, None)
