"""The arms of a trial side by side: what the gradient and the loss did in a training of each, with the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

from throughtime.reporting.chart import chart, decades_axis, hover, labelled, line
from throughtime.reporting.gradient import gradient_heat_map, lags_shown
from throughtime.reporting.ink import SERIES
from throughtime.reporting.picture import Picture, Table, counted
from throughtime.trial import ArmRecord, Treatment
from throughtime.trial.treatment import best_at_random

__all__ = ["arm_heat_maps", "arm_losses", "arms_shown", "left_out", "why_no_heat_map"]

_MOST_ARMS = 6
"""More heat maps would make the page larger than anybody wants to be sent."""
_OPEN = 2
"""Heat maps that are seen at once; the others are shown on demand."""
_DASHES = ("solid", "dashed", "dotted", "dotdash", "dashdot", "solid")
"""Lines that differ in more than their colour."""
_LETTERS = 40
"""Of a name beside a line, that a phone has room for."""
_LOG_FROM = 10.0
"""The ratio of the largest loss to the smallest from which on the axis is logarithmic."""

Points = Sequence[tuple[int, float]]
"""Updates made, and the loss."""


def arms_shown(record: Treatment) -> list[ArmRecord]:
    """The patient as it is, the arm that was confirmed, then the others that did best; of random search one."""
    looked_at = [arm for arm in record.arms if arm.looks is not None]
    at_random = best_at_random(looked_at, record.best_name)

    def order(arm: ArmRecord) -> tuple[Any, ...]:
        score = arm.mean_score
        ranks = arm.source != "baseline", arm.name != record.best_name
        return *ranks, -arm.num_learned, score is None, -(score or 0.0)

    shown = sorted((arm for arm in looked_at if arm.source != "random" or arm is at_random), key=order)[:_MOST_ARMS]
    if at_random is not None and at_random not in shown:
        shown[-1] = at_random
    return shown


def arm_heat_maps(record: Treatment) -> list[Picture]:
    """One for each arm, all of the same lags, so that they can be laid beside each other."""
    histories = [(arm, arm.looks.history) for arm in arms_shown(record) if arm.looks is not None]
    told = [(arm, history) for arm, history in histories if history is not None]
    need = record.horizons.get("need")
    lags = max((lags_shown(history, history.top, need) for _, history in told), default=1)
    pictures = []
    for place, (arm, history) in enumerate(told):
        picture = gradient_heat_map(history, need=need, lags=lags)
        pictures.append(
            replace(
                picture,
                name=f"{picture.name}-{place}",
                title=f"{arm.name}: {picture.title}",
                sentence=f"{picture.sentence} {_learned(record, arm)}",
                on_demand=place >= _OPEN,
            )
        )
    return pictures


def why_no_heat_map(record: Treatment) -> list[str]:
    """For those that have none the reason."""
    if all(arm.looks is None for arm in record.arms):
        return [
            "No training of this trial was looked at: it was made by a version that did not. Make it again to see it."
        ]
    shown = arms_shown(record)
    return [
        f"{arm.name}: no gradient was measured, since {arm.looks.cannot_tell or 'it was not finite'}."
        for arm in shown
        if arm.looks is not None and not arm.looks.module
    ]


def left_out(record: Treatment) -> str:
    """Which arms are not drawn; empty where all are."""
    shown = {arm.name for arm in arms_shown(record)}
    names = [arm.name for arm in record.arms if arm.name not in shown and arm.source != "random"]
    num_random = sum(arm.name not in shown and arm.source == "random" for arm in record.arms)
    names += [counted(num_random, "plan") + " of random search"] if num_random else []
    return f"Not drawn: {'; '.join(names)}." if shown and names else ""


def arm_losses(record: Treatment) -> Picture | None:
    """A line for each arm; None where no loss is known."""
    told = [(arm, points) for arm in arms_shown(record) if (points := _points(arm))]
    if not told:
        return None
    values = [loss for _, points in told for _, loss in points]
    log = min(values) > 0 and max(values) > _LOG_FROM * min(values)
    made = chart(x_label="updates made", y_label="loss", height=320, y_axis_type="log" if log else "linear")
    if log:
        decades_axis(made.yaxis, values)
    drawn = []
    for (arm, points), ink, dash in zip(told, SERIES, _DASHES, strict=False):
        steps, losses = zip(*points, strict=True)
        best = arm.name == record.best_name
        told_there = {"loss": losses, "name": [arm.name] * len(losses)}
        renderer = line(made, steps, told_there, ink, line_dash=dash, line_width=3 if best else 2)
        drawn.append((shorten(arm.name, _LETTERS, placeholder=" …"), renderer))
    labelled(made, drawn)
    hover(made, [each for _, each in drawn], [("", "@name"), ("updates", "@x{0,0}"), ("loss", "@loss{0.0000}")])
    columns = ("arm", "updates", "loss before", "lowest", "at the end", "reach before", "at the end")
    rows = tuple(_row(arm, points) for arm, points in told)
    return Picture("arm-losses", "Loss", _losses_told(told), made, Table(columns, rows))


def _points(arm: ArmRecord) -> list[tuple[int, float]]:
    """Those that are numbers."""
    if arm.looks is None:
        return []
    return [(step, loss) for step, loss in zip(arm.looks.steps, arm.looks.losses, strict=True) if loss is not None]


def _row(arm: ArmRecord, points: Points) -> tuple[Any, ...]:
    assert arm.looks is not None
    reach = arm.looks.reach or (None,)
    losses = [loss for _, loss in points]
    ended = arm.looks.losses[-1]
    return arm.name, arm.looks.steps[-1], losses[0], min(losses), ended, reach[0], reach[-1]


def _losses_told(told: Sequence[tuple[ArmRecord, Points]]) -> str:
    looks = told[0][0].looks
    assert looks is not None
    parts = []
    for arm, points in told:
        (_, first), (_, last) = points[0], points[-1]
        parts.append(f"{arm.name} from {first:.3g} to {last:.3g}")
    return (
        f"A training of each arm with seed {looks.seed}, looked at on the same data and as in evaluation: "
        f"{'; '.join(parts)}. All had the same compute, so that a line is shorter where a step takes longer."
    )


def _learned(record: Treatment, arm: ArmRecord) -> str:
    if record.target is None:
        return "" if arm.mean_score is None else f"The mean score of this arm is {arm.mean_score:.4g}."
    proof = f", and {arm.num_fresh_learned} of {len(arm.fresh_scores)} fresh ones" if arm.fresh_scores else ""
    return f"With this arm {arm.num_learned} of {arm.num_seeds} seeds learned{proof}."
