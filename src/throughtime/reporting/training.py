"""A training as pictures: loss, learning rate, norms of gradients and sizes of updates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import ColumnDataSource, PrintfTickFormatter

from throughtime.measurement import GradientHistory
from throughtime.measurement.loss_spikes import Spike
from throughtime.reporting.chart import chart, decades_axis, hover, labelled, line
from throughtime.reporting.gradient import parameter_title
from throughtime.reporting.ink import ACCENT, AXIS, BLUE, GREEN, MUTED, PLUM, RED, SERIES, themed
from throughtime.reporting.picture import Picture, Table, counted

__all__ = ["losses_picture", "norms_picture", "rate_picture", "updates_picture"]

Lines = Sequence[Mapping[str, Any]]
"""What a run logged, or a watch sampled, one mapping a step."""

_SMOOTHING = 0.02
"""Of the shortest stretch over which the loss is averaged, as a share of all steps."""
_NUM_ROWS = 25
_LARGEST_NATS = 80.0
"""More is drawn as this: the perplexities of a training that blew up have no end."""


def losses_picture(
    steps: Lines, evaluations: Lines, spikes: Sequence[Spike] = (), *, words: bool = True
) -> Picture | None:
    """The loss of training and of validation by step; None without a loss that is a number.

    Args:
        steps: with "step" and "loss_nats".
        evaluations: with "step" and "loss_nats".
        spikes: to be marked, with their causes.
        words: whether these are nats a word, to be drawn as perplexity.
    """
    told = [line_ for line_ in steps if _is_number(line_.get("loss_nats"))]
    if not told:
        return None
    scale = _Scale(words)
    made = chart(x_label="updates made", y_label=scale.name, height=320, y_axis_type="log" if words else "linear")
    x = [line_["step"] for line_ in told]
    nats = [float(line_["loss_nats"]) for line_ in told]
    smooth = _smoothed(nats)
    raw = line(made, x, scale.columns(nats), AXIS, line_width=1, line_alpha=0.8)
    mean = line(made, x, scale.columns(smooth), BLUE)
    if words:
        decades_axis(made.yaxis, map(scale.value, (*nats, *(line_["loss_nats"] for line_ in evaluations))))
    drawn, entries = [mean], [("each update", raw), ("averaged", mean)]
    if evaluations:
        at = [line_["step"] for line_ in evaluations]
        valid = line(made, at, scale.columns([line_["loss_nats"] for line_ in evaluations]), ACCENT)
        dots = made.scatter("x", scale.name, source=valid.data_source, size=6, line_color=None)
        themed(dots.glyph, fill_color=ACCENT)
        drawn.append(dots)
        entries.append(("validation", valid))
    hover(made, drawn, [("updates", "@x{0,0}"), *scale.tooltips])
    if spikes:
        entries.append(("spike", _mark(made, spikes, scale)))
    labelled(made, entries)
    valid_columns = ("validation loss", f"as {scale.name}") if evaluations else ()
    table = Table(
        ("updates", "training loss", f"as {scale.name}", *valid_columns),
        tuple(_loss_rows(x, smooth, evaluations, scale)),
    )
    return Picture("losses", "Loss", _loss_sentence(x, smooth, evaluations, spikes, scale), made, table)


@dataclass(frozen=True)
class _Scale:
    """How a loss is drawn: nats a word as perplexity, any other as it is."""

    words: bool

    @property
    def name(self) -> str:
        return "perplexity" if self.words else "loss"

    def value(self, loss: float) -> float:
        return math.exp(min(loss, _LARGEST_NATS)) if self.words else loss

    def columns(self, losses: Sequence[float]) -> dict[str, list[float]]:
        return {self.name: [self.value(loss) for loss in losses], "nats": list(losses)}

    @property
    def tooltips(self) -> list[tuple[str, str]]:
        if self.words:
            return [("perplexity", "@perplexity{0.0}"), ("nats", "@nats{0.000}")]
        return [("loss", "@loss{0.0000}")]


def norms_picture(steps: Lines) -> Picture | None:
    """The gradient's norm before and after clipping, by step; None where it was not seen."""
    told = [line_ for line_ in steps if _is_number(line_.get("gradient_norm"))]
    if not told:
        return None
    made = chart(x_label="updates made", y_label="norm of the gradient", height=240, y_axis_type="log")
    x = [line_["step"] for line_ in told]
    before = [line_["gradient_norm"] or None for line_ in told]
    after = [line_.get("clipped_gradient_norm") or None for line_ in told]
    decades_axis(made.yaxis, (*before, *after))
    first = line(made, x, {"norm": before}, PLUM, line_width=4, line_alpha=0.45)  # seen on both sides of the other
    second = line(made, x, {"norm": after}, GREEN, line_width=1.2)
    labelled(made, [("before clipping", first), ("after", second)])
    hover(made, [first, second], [("updates", "@x{0,0}"), ("norm", "@norm{0.000}")])
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b and a]
    clipped = sum(a < 0.999 * b for b, a in pairs)
    middle = statistics.median([b for b in before if b] or [0.0])
    sentence = f"The median norm is {middle:.3g}, the largest {max(b or 0.0 for b in before):.3g}"
    if pairs:
        were = "was" if clipped == 1 else "were"
        sentence += f"; {clipped or 'none'} of {counted(len(pairs), 'update')} {were} clipped"
    rows = tuple((x[i], before[i], after[i]) for i in _places(len(x)))
    return Picture("norms", "Norm of the gradient", sentence + ".", made, Table(("updates", "before", "after"), rows))


def rate_picture(steps: Lines) -> Picture | None:
    """The learning rate by step; None where it was not seen."""
    told = [line_ for line_ in steps if _is_number(line_.get("learning_rate"))]
    if not told:
        return None
    x, rates = [line_["step"] for line_ in told], [line_["learning_rate"] for line_ in told]
    alike = {"y_range": (0.0, 2 * rates[0] or 1.0)} if len(set(rates)) == 1 else {}
    made = chart(x_label="updates made", y_label="learning rate", height=180, **alike)
    made.yaxis.formatter = PrintfTickFormatter(format="%.3g")
    drawn = line(made, x, {"rate": rates}, BLUE)
    hover(made, [drawn], [("updates", "@x{0,0}"), ("learning rate", "@rate{0.000000}")], mode="vline")
    peak = max(range(len(rates)), key=rates.__getitem__)
    sentence = (
        f"The learning rate is {rates[0]:.3g} throughout."
        if alike
        else f"The learning rate is at most {rates[peak]:.3g}, at update {x[peak]:,}, and ends at {rates[-1]:.3g}."
    )
    rows = tuple((x[i], rates[i]) for i in _places(len(x)))
    return Picture("rate", "Learning rate", sentence, made, Table(("updates", "learning rate"), rows))


def updates_picture(history: GradientHistory) -> Picture | None:
    """How large an update is beside the parameter that it changes; None where that was not measured."""
    ratios = {n: v for n, v in (history.update_ratio or {}).items() if any(map(_is_number, v))}
    if all("bias" in name for name in ratios):
        return None
    made = chart(
        x_label="updates made",
        y_label="relative size of an update",
        height=300,
        x_axis_type="log",
        y_axis_type="log",
    )
    kept = [place for place, step in enumerate(history.steps) if step > 0]
    x = [history.steps[place] for place in kept]
    drawn = []
    matrices = {name: values for name, values in ratios.items() if "bias" not in name}
    for (name, values), ink in zip(matrices.items(), SERIES * len(ratios), strict=False):
        column: dict[str, list[Any]] = {
            "ratio": [values[place] or None for place in kept],
            "name": [parameter_title(name)] * len(kept),
        }
        drawn.append((parameter_title(name), line(made, x, column, ink, line_width=1.6)))
    labelled(made, drawn)
    hover(made, [d for _, d in drawn], [("", "@name"), ("updates", "@x{0,0}"), ("ratio", "@ratio{0.000000}")])
    middle = {name: statistics.median([v for v in values if v is not None]) for name, values in matrices.items()}
    most = max(middle, key=middle.__getitem__)
    sentence = (
        f"At the median of the updates that were looked at, the weights '{parameter_title(most)}' change most for "
        f"their size, by {100 * middle[most]:.2g} % of it."
    )
    rows = tuple((parameter_title(name), *(values[place] for place in kept)) for name, values in ratios.items())
    return Picture(
        "updates", "Updates", sentence, made, Table(("parameter", *(f"update {step:,}" for step in x)), rows)
    )


def _mark(made: Any, spikes: Sequence[Spike], scale: _Scale) -> Any:
    source = ColumnDataSource(
        {
            "x": [spike.step for spike in spikes],
            "y": [scale.value(spike.loss_nats) for spike in spikes],
            "cause": [spike.cause for spike in spikes],
        }
    )
    marks = made.scatter("x", "y", source=source, marker="inverted_triangle", size=11, line_width=1.5)
    themed(marks.glyph, fill_color=RED, line_color=MUTED)
    hover(made, [marks], [("update", "@x{0,0}"), (scale.name, "@y{0.0}"), ("cause", "@cause")])
    return marks


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over a growing stretch that ends at each step, at most a fiftieth of all of them."""
    longest = max(1, int(_SMOOTHING * len(values)))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    begins = [max(0, end - longest) for end in range(1, len(values) + 1)]
    return [(sums[end] - sums[begin]) / (end - begin) for end, begin in enumerate(begins, start=1)]


def _loss_rows(x: Sequence[int], smooth: Sequence[float], evaluations: Lines, scale: _Scale) -> list[tuple[Any, ...]]:
    if not evaluations:
        return [(x[place], smooth[place], scale.value(smooth[place])) for place in _places(len(x))]
    at = dict(zip(x, smooth, strict=True))
    rows = []
    for place in _places(len(evaluations)):
        step, valid = evaluations[place]["step"], evaluations[place]["loss_nats"]
        mean = at.get(step)
        rows.append((step, mean, None if mean is None else scale.value(mean), valid, scale.value(valid)))
    return rows


def _loss_sentence(
    x: Sequence[int], smooth: Sequence[float], evaluations: Lines, spikes: Sequence[Spike], scale: _Scale
) -> str:
    first, last = scale.value(smooth[0]), scale.value(smooth[-1])
    sentence = f"The training {scale.name} goes from {first:,.4g} to {last:,.4g} in {counted(x[-1], 'update')}"
    if evaluations:
        best = min(evaluations, key=lambda found: float(found["loss_nats"]))
        value = scale.value(best["loss_nats"])
        sentence += f"; on the validation text it is best after update {best['step']:,}, {value:,.4g}"
    if spikes:
        told = "; ".join(f"at update {spike.step:,}: {spike.cause}" for spike in spikes[:3])
        more = f" and {len(spikes) - 3} more" if len(spikes) > 3 else ""
        sentence += f". {len(spikes)} {'spike' if len(spikes) == 1 else 'spikes'} of the loss ({told}{more})"
    return sentence + "."


def _places(length: int) -> list[int]:
    """Of a long column some, evenly, the last among them."""
    if length <= _NUM_ROWS:
        return list(range(length))
    return sorted({round(place * (length - 1) / (_NUM_ROWS - 1)) for place in range(_NUM_ROWS)})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
