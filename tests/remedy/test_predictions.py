"""The reach that a remedy predicts before anything is measured is the one that is measured after it was applied."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch
from torch import nn

from throughtime import Recurrent, measure
from throughtime.diagnosis import Diagnosis
from throughtime.remedy import PatientEvidence, TreatmentPlan, facts_of, remedy
from throughtime.remedy.mean_field import gain_for, ring_reach, skip_reach

SEEDS = (0, 1, 2)


def nothing_found(need: int) -> Diagnosis:
    return Diagnosis.of([], not_checked={}, ignored=(), horizons={"need": need}, notes=())


@pytest.mark.parametrize(
    ("name", "need", "scale", "steps", "make"),
    [
        ("orthogonal-start", 40, 0.5, 160, lambda: nn.RNN(4, 64)),
        ("orthogonal-start", 40, 1.0, 160, lambda: nn.GRU(4, 64)),
        ("critical-start", 30, 1.0, 300, lambda: nn.RNN(4, 64)),
        ("identity-start", 40, 100.0, 400, lambda: nn.RNN(4, 128)),  # small layers scatter by half
        ("forget-bias", 40, 0.5, 300, lambda: nn.LSTM(4, 32)),
        ("chrono-start", 30, 0.5, 300, lambda: nn.LSTM(4, 48)),
        ("chrono-start", 30, 1.0, 300, lambda: Recurrent("gru", 4, 48)),
        ("ring-start", 30, 1.0, 400, lambda: nn.RNN(4, 48)),
        ("lstm-chrono", 20, 1.0, 300, lambda: nn.RNN(4, 48, nonlinearity="relu")),
        ("gru-chrono", 20, 1.0, 300, lambda: nn.RNN(4, 48)),
        ("orthogonal-cell", 40, 0.5, 160, lambda: nn.RNN(4, 64)),
    ],
)
def test_predicted_is_measured(name: str, need: int, scale: float, steps: int, make: Callable[[], nn.Module]) -> None:
    """Within 20 % of the median over three seeds, none of which was seen by the formula."""
    chosen = remedy(name)
    reaches, predictions = [], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = make()
        x = scale * torch.randn(steps, 6, 4)
        evidence = PatientEvidence(nothing_found(need), facts_of(model, x))
        predicted = chosen.predict(evidence)
        assert predicted is not None
        predictions.append(predicted)
        plan = chosen.apply(TreatmentPlan(), evidence)
        model, _ = plan.apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
        reach = measure(model, x, seed=seed, time_dim=0, max_lag=steps // 2 + 1, num_sequences=6).reach
        assert reach is not None
        reaches.append(reach)
    middle = statistics.median(reaches)
    assert 10 <= middle <= steps / 2
    assert abs(statistics.median(predictions) / middle - 1) <= 0.2, (predictions, reaches)


def test_the_gain_is_the_smallest_that_reaches() -> None:
    assert gain_for(20, 0.0, 64) == 1.0
    assert 1.0 < gain_for(100, 0.3, 64) < gain_for(200, 0.3, 64) < 2.0


def test_a_ring_of_equal_units_is_a_power() -> None:
    assert ring_reach(0.9 - 1e-9, 0.9, 8) == 43  # 0.9^43 > 0.01 > 0.9^44


def test_a_skip_of_one_step_changes_nothing_and_a_long_one_reaches_farther() -> None:
    assert skip_reach(1, 0.9) == 43
    assert skip_reach(16, 0.9) > 4 * 43
