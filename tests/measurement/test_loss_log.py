"""Losses by step, thinned out when they are many."""

from __future__ import annotations

import math

import torch

from throughtime.measurement import loss_log
from throughtime.measurement.loss_log import LossLog


def test_losses_of_a_step_are_averaged_and_a_step_without_one_is_none():
    log = LossLog()
    assert log.add(torch.tensor(2.0, requires_grad=True)) == 2.0
    assert log.add(torch.tensor([3.0, 5.0])) == 4.0
    log.step_ended()
    log.step_ended()
    log.add(1)
    log.step_ended()
    log.add(7.0)  # of a step that has not ended
    log.settle()
    assert log.values == (3.0, None, 1.0)
    assert log.last == 1.0
    assert log.non_finite_step is None


def test_the_first_loss_that_is_not_finite_is_known_by_its_step():
    log = LossLog()
    for value in (1.0, math.inf, 2.0, math.nan):
        log.add(value)
        log.step_ended()
    log.settle()
    assert log.values == (1.0, None, 2.0, None)
    assert log.non_finite_step == 2


def test_a_loss_changed_in_place_is_the_one_handed_over():
    log = LossLog()
    loss = torch.tensor(6.0)
    log.add(loss)
    loss /= 2
    log.step_ended()
    log.settle()
    assert log.values == (6.0,)


def test_neighbours_are_joined_when_they_are_too_many(monkeypatch):
    monkeypatch.setattr(loss_log, "MOST", 4)
    log = LossLog()
    for step in range(11):
        log.add(float(step))
        log.step_ended()
    log.settle()
    assert log.stride_steps == 4
    assert log.values == (1.5, 5.5, 9.0)
