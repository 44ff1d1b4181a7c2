"""The image of the gradient through time."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from throughtime.errors import InputError
from throughtime.integrations import heat_map
from throughtime.measurement import GradientRecord, LagProfile


def record(curve: tuple[float | None, ...], reach: int | None) -> GradientRecord:
    profile = LagProfile("rnn", "state", log10_gradient=curve, reach=reach)
    return GradientRecord("float64", 0, (), (), "rnn", {"rnn": asdict(profile)})


def test_steps_run_to_the_right_and_lags_upwards() -> None:
    image = heat_map({20: record((0.0, 0.0, -6.0, None), 1), 10: record((0.0, -6.0), 0)})
    height, width, channels = image.shape
    assert (width >= 480, height >= 240, channels) == (True, True, 3)
    cell = height // 4

    def colour(lag: int, place: int) -> tuple[int, ...]:
        return tuple(image[height - 1 - lag * cell - cell // 2, place * width // 2 + 5].tolist())

    yellow, violet, grey = (253, 231, 37), (68, 1, 84), (128, 128, 128)
    assert [colour(lag, 0) for lag in range(4)] == [yellow, violet, grey, grey]
    assert [colour(lag, 1) for lag in range(4)] == [yellow, yellow, violet, violet]


def test_a_white_line_marks_the_reach() -> None:
    image = heat_map({1: record((0.0, 0.0, -6.0, -6.0), 1)})
    white = np.flatnonzero((image == 255).all(axis=(1, 2)))
    assert white.tolist() == [len(image) // 2 - 1]
    assert not (heat_map({1: record((0.0, 0.0), 1)}) == 255).all(axis=2).any()


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(InputError, match="needs a probe"):
        heat_map({})
