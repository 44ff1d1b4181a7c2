"""Spikes of a loss, and what caused them."""

from __future__ import annotations

from typing import Any

from throughtime.measurement.loss_spikes import loss_spikes


def steps(losses: dict[int, float], norms: dict[int, float], *, clip: float = 1.0) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "loss_nats": losses.get(step, 3.0 + 0.01 * (step % 3)),
            "gradient_norm": norms.get(step, 0.5),
            "clipped_gradient_norm": min(norms.get(step, 0.5), clip),
            "learning_rate": 0.1,
        }
        for step in range(1, 101)
    ]


def test_a_quiet_loss_has_none() -> None:
    assert loss_spikes(steps({}, {50: 40.0})) == []
    assert loss_spikes(steps({70: 3.2}, {})) == []
    assert loss_spikes([]) == []


def test_a_large_gradient_before_it_is_the_cause() -> None:
    (spike,) = loss_spikes(steps({60: 6.0, 61: 5.0}, {59: 20.0}))
    assert (spike.step, spike.loss_nats) == (60, 6.0)
    assert spike.cause == "the gradient of update 59 was 40 times as large as usual, clipped to 1"
    (spike,) = loss_spikes(steps({60: 6.0}, {58: 20.0}, clip=100.0))
    assert spike.cause.endswith("not clipped")


def test_an_odd_batch_and_nothing_at_all() -> None:
    (spike,) = loss_spikes(steps({60: 6.0}, {60: 20.0}))
    assert spike.cause.startswith("an odd batch")
    (spike,) = loss_spikes(steps({60: 6.0}, {}))
    assert spike.cause == "nothing in the metrics before it stands out"


def test_losses_that_are_no_numbers_are_no_spikes() -> None:
    assert loss_spikes(steps({60: float("inf"), 61: float("nan")}, {})) == []
    (spike,) = loss_spikes(steps({60: float("nan"), 62: 6.0}, {}))
    assert spike.step == 62
