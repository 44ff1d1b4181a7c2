"""Positions at which the loss counts: drawn from the last quarter, and moved to where there is a loss."""

from __future__ import annotations

import pytest
import torch

from throughtime.measurement.positions import at_positions, counted_positions, drawn_positions
from throughtime.measurement.probe import Axes


def gradient_at(*steps_of_each: tuple[int, ...]) -> torch.Tensor:
    """(10, B, 3), other than zero in one feature at some steps of each sequence."""
    gradient = torch.zeros(10, len(steps_of_each), 3)
    for row, steps in enumerate(steps_of_each):
        gradient[list(steps), row, 1] = -2.0
    return gradient


def test_drawn_from_the_last_quarter_of_each() -> None:
    lengths = torch.tensor([100, 40, 4, 1])
    drawn = torch.stack([drawn_positions(lengths, torch.Generator().manual_seed(seed)) for seed in range(200)])
    assert drawn.amin(0).tolist() == [75, 30, 3, 0]
    assert drawn.amax(0).tolist() == [99, 39, 3, 0]


@pytest.mark.parametrize("axes", [Axes(0, 1), Axes(1, 0)])
def test_moved_to_the_nearest_step_with_a_loss(axes: Axes) -> None:
    gradient = gradient_at((2, 7), (0, 9), (4,), (), tuple(range(10)))
    lying = gradient if axes.time == 0 else gradient.transpose(0, 1)
    assert counted_positions(lying, axes, torch.tensor([8, 3, 9, 6, 5])).tolist() == [7, 0, 4, 6, 5]


def test_the_gradient_at_the_positions_alone() -> None:
    gradient = gradient_at((2, 7), (0, 9))
    kept = at_positions(gradient, Axes(0, 1), torch.tensor([7, 3]))
    assert kept.nonzero().tolist() == [[7, 0, 1]]
    assert torch.equal(at_positions(gradient.transpose(0, 1), Axes(1, 0), torch.tensor([7, 3])), kept.transpose(0, 1))


def test_outputs_without_features() -> None:
    gradient = torch.zeros(6, 2)
    gradient[2, 0] = gradient[5, 1] = 1
    assert counted_positions(gradient, Axes(0, 1), torch.tensor([5, 0])).tolist() == [2, 5]
