"""What is read from the norms of gradients: the curve and its spread, the line through it, the reach and what limits it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from throughtime.measurement.norms import Norms
from throughtime.measurement.profile import Profiled, lag_profile
from throughtime.measurement.tap import Tap


def profile(log10_norms, start, max_lag=None, *, parts=("h",), backward=False):
    """Of logarithms (parts, S, B) of the norms of the gradient at each step."""
    norms = Norms(torch.as_tensor(log10_norms, dtype=torch.float64) / math.log10(2))
    tap = Tap("rnn", parts, backward)
    return lag_profile(Profiled(tap, "state", norms, norms, torch.tensor(start), ()), max_lag)


def test_the_curve_is_the_mean_over_sequences_and_the_spread_its_quartiles():
    generator = torch.Generator().manual_seed(0)
    logs = -torch.rand(1, 12, 5, generator=generator, dtype=torch.float64)
    start = [11, 9, 10, 8, 11]
    found = profile(logs, start)
    each = torch.stack([logs[0, at - 8 : at + 1, row].flip(0) - logs[0, at, row] for row, at in enumerate(start)], 1)
    assert found.log10_gradient == pytest.approx(each.mean(1).tolist())
    ordered = each.sort(1).values
    for lag, quartiles in enumerate(found.spread):
        assert quartiles == pytest.approx(ordered[lag, [1, 2, 3]].tolist())


def test_the_line_has_the_slope_and_the_error_of_least_squares():
    logs = -0.1 * np.arange(30) + 0.2 * np.sin(np.arange(30.0))
    found = profile(torch.tensor(logs).flip(0).view(1, 30, 1), [29])
    (slope, _), covariance = np.polyfit(np.arange(30), logs - logs[0], 1, cov=True)
    assert found.decay_per_step == pytest.approx(10**slope)
    assert found.decay_error == pytest.approx(10**slope * math.log(10) * math.sqrt(covariance[0, 0]))


@pytest.mark.parametrize(
    ("logs", "reach", "censored"),
    [
        ([0, -1, -1.99, -2.01, -3], 2, False),
        ([0, -3, -1.5, -3, -3], 2, False),  # the largest lag, whatever lies before it
        ([0, -1, -1, -1, -1], 4, True),
        ([0, -2.01, -math.inf, -math.inf, -math.inf], 0, False),
    ],
)
def test_the_reach_is_the_largest_lag_with_one_per_cent(logs, reach, censored):
    found = profile(torch.tensor(logs, dtype=torch.float64).flip(0).view(1, 5, 1), [4])
    assert (found.reach, found.reach_censored) == (reach, censored)
    assert [value is None for value in found.log10_gradient] == [math.isinf(value) for value in logs]


def test_parts_are_relative_to_both_together_and_the_whole_loss_lies_along_time():
    logs = torch.tensor([[-2.0, -1.0, 0.0], [-3.0, -2.0, math.log10(3) / 2]]).view(2, 3, 1)  # 1 and 3^0.5: together 2
    found = profile(logs, [2], parts=("h", "c"))
    assert found.log10_parts["h"] == pytest.approx([-math.log10(2), -1 - math.log10(2), -2 - math.log10(2)])
    assert found.log10_state_gradient["h"] == pytest.approx([-2, -1, 0])
    turned = profile(logs, [2], parts=("h", "c"), backward=True)
    assert turned.log10_state_gradient["h"] == pytest.approx([0, -1, -2])
    assert turned.log10_gradient == found.log10_gradient


def test_later_steps_have_no_lag_and_are_told():
    logs = torch.zeros(1, 6, 2)
    found = profile(logs, [3, 5], max_lag=2)
    assert len(found.log10_gradient) == 3
    assert found.notes == ("the loss at a step depends on later ones too, which have no lag",)
    assert profile(logs, [5, 5]).notes == ()
