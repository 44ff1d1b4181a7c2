"""The gradient through time as an image: training steps from left to right, lags from bottom to top."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError
from throughtime.measurement.gradient_record import Curve, GradientRecord

__all__ = ["heat_map"]

DARKEST_LOG10 = -6.0
"""A gradient of a millionth of that at lag 0 and all below it have one colour."""
WIDTH, HEIGHT = 480, 240
"""Pixels that the image has at least."""
ABSENT = (128, 128, 128)
"""Grey: there is no such lag."""
# From dark violet to yellow, of even steps in lightness, so that it reads in grey too (points of viridis, Smith & van
# der Walt 2015).
COLOURS = np.array(
    [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (92, 200, 99), (253, 231, 37)], float
)


def heat_map(probes: Mapping[int, GradientRecord]) -> npt.NDArray[np.uint8]:
    """An image of how far the gradient reaches while a network learns.

    Colour is log10 of the gradient relative to lag 0, from -6 and below (dark violet) to 0 (yellow); a white line marks
    the reach.

    Args:
        probes: records by training step, as `Watch.records` has them.

    Returns:
        (height, width, 3) red, green and blue.

    Raises:
        InputError: if there is none.
    """
    if not probes:
        raise InputError("a heat map needs a probe, and there is none: train longer, or lower `every` of the watch")
    records = [probes[step] for step in sorted(probes)]
    num_lags = max(1, *(len(record.log10_gradient) for record in records))
    across, up = -(-WIDTH // len(records)), -(-HEIGHT // num_lags)
    columns = np.stack([_column(record.log10_gradient, num_lags) for record in records], axis=1)
    image = columns[::-1].repeat(up, axis=0).repeat(across, axis=1)
    for place, record in enumerate(records):
        if record.reach is not None and record.reach + 1 < num_lags:
            row = (num_lags - record.reach - 1) * up
            image[row - 1, place * across : (place + 1) * across] = 255
    return image


def _column(curve: Curve, num_lags: int) -> npt.NDArray[np.uint8]:
    """(num_lags, 3), lag 0 first."""
    column = np.full((num_lags, 3), ABSENT, np.uint8)
    values = np.array([DARKEST_LOG10 if value is None else value for value in curve], float)
    place = (1.0 - np.clip(values / DARKEST_LOG10, 0.0, 1.0)) * (len(COLOURS) - 1)
    for channel in range(3):
        column[: len(values), channel] = np.interp(place, range(len(COLOURS)), COLOURS[:, channel]).round()
    return column
