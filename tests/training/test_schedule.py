"""The learning rate over a run."""

from __future__ import annotations

import pytest

from throughtime.recipe import Plan
from throughtime.training import learning_rate


def test_it_rises_to_the_peak_and_falls_to_nothing() -> None:
    plan = Plan(learning_rate=0.01, warmup_share=0.1)
    rates = [learning_rate(step, 200, plan) for step in range(200)]
    assert rates.index(max(rates)) in (19, 20)
    assert max(rates) == pytest.approx(0.01)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_no_warm_up_and_one_step() -> None:
    assert learning_rate(0, 1, Plan(learning_rate=0.5, warmup_share=0.0)) == 0.5
