"""Axes of a figure."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from throughtime.reporting.chart import chart, decades_axis


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((1.3, None, 50.0, float("nan")), [1, 2, 5, 10, 20, 50, 100, 200, 500]),
        ((0.9, 11.0), [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]),
        ((20.0, 60.0), None),  # Bokeh's own are better within a decade
        ((1.0, 1e9), None),  # and over many
        ((0.0, float("inf"), None), None),
    ],
)
def test_one_to_three_decades_are_labelled_at_one_two_and_five(
    values: Sequence[float | None], wanted: list[float] | None
) -> None:
    made = chart(x_label="x", y_label="y", y_axis_type="log")
    before = made.yaxis[0].ticker
    decades_axis(made.yaxis[0], values)
    ticker = made.yaxis[0].ticker
    assert (ticker is before) if wanted is None else (list(ticker.ticks) == wanted)
