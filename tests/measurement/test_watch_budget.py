"""The intervals of a watch follow from what looking costs."""

from __future__ import annotations

import pytest

from throughtime.measurement.watch_budget import CREDIT_SECONDS, Budget


def trained(budget, num_steps, *, step=0.01, sample=0.002, probe=0.5):
    """Steps, samples and probes of given cost."""
    sampled, probed = [], []
    for number in range(1, num_steps + 1):
        budget.step_took(step)
        if budget.wants_sample(number):
            budget.sample_took(sample)
            sampled.append(number)
        if budget.wants_probe(number, guess_seconds=probe / 2):
            budget.probe_took(number, probe)
            probed.append(number)
    return sampled, probed


def test_the_share_is_kept_and_used():
    budget = Budget(every=200, sample_every=None, max_overhead=0.02)
    sampled, probed = trained(budget, 50_000)
    assert 0.007 < budget.overhead_share <= 0.011 + CREDIT_SECONDS / budget.training_seconds
    assert probed[0] == 3125  # two fifths of the share have to hold a quarter of a second, as was guessed
    assert budget.interval_steps == 6250
    assert len(probed) == 7
    assert sampled[:20] == list(range(1, 21))  # on credit
    assert sampled[-1] - sampled[-2] in (66, 67)


def test_what_costs_little_is_done_as_often_as_asked():
    budget = Budget(every=50, sample_every=None, max_overhead=0.02)
    sampled, probed = trained(budget, 500, sample=1e-6, probe=1e-3)
    assert sampled == list(range(1, 501))
    assert probed == list(range(50, 501, 50))
    assert budget.interval_steps == 50


def test_samples_that_are_asked_for_come_whatever_they_cost():
    assert trained(Budget(every=999, sample_every=3, max_overhead=0.02), 10, sample=9.0)[0] == [1, 4, 7, 10]
    assert trained(Budget(every=5, sample_every=None, max_overhead=0.02), 100, sample=9.0)[0] == list(range(1, 65))
    budget = Budget(every=7, sample_every=None, max_overhead=None)
    assert trained(budget, 30, sample=9.0, probe=9.0) == (list(range(1, 31)), [7, 14, 21, 28])
    assert budget.interval_steps == 7


def test_a_pause_is_not_training():
    budget = Budget(every=200, sample_every=1, max_overhead=0.02)
    trained(budget, 100)
    budget.step_took(3600.0)
    assert budget.training_seconds == pytest.approx(1.1)
    assert budget.step_seconds == 0.01
