"""Each code of the dynamics: patients that must get it, and near ones that must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import LastStep, evidence, first_input, mse, orthogonal
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.dynamics import RULES, growth
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.measurement import LagProfile, WatchRecord, watch

FIND: dict[str, Callable[[Evidence], Finding | None]] = {rule.code: rule.find for rule in RULES}


def recalling(model: nn.Module, **options: object) -> Evidence:
    x, y = first_input()
    return evidence(model, x, y, mse, time_dim=0, **options)


def growing(factor: float) -> nn.Module:
    """ReLU units, each of which is on, and multiplies itself."""
    model = LastStep(orthogonal(1.0, "relu"))
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(factor * torch.eye(16))
        model.rnn.bias_ih_l0.fill_(1.0)
    return model


def watched(model: nn.Module, rate: float, clip: float | None = None, num_steps: int = 8, every: int = 100) -> Evidence:
    """After a loop of the user's own."""
    x, y = first_input()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with watch(model, optimizer, every=every, max_overhead=None) as seen:
        for _ in range(num_steps):
            loss = mse(model(x), y).mean()
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            seen.loss(loss)
            optimizer.step()
    return recalling(model, history=seen.record)


def only(record: WatchRecord) -> Evidence:
    """A loop's history, beside a fresh model."""
    return recalling(LastStep(orthogonal(1.0)), history=record)


# --- exploding-gradient ---


def test_growth_is_the_largest_of_the_curve_and_where() -> None:
    assert growth(LagProfile("rnn", "state", log10_gradient=(0.0, 0.5, None, 1.5, 1.0))) == (1.5, 3)
    assert growth(LagProfile("rnn", "state")) == (0.0, 0)


def test_a_gradient_that_grows_with_the_lag() -> None:
    found = FIND["exploding-gradient"](recalling(growing(1.3)))
    assert found is not None
    assert found.severity == "error"
    assert found.evidence["at_lag"] == 39
    assert found.evidence["factor_per_step"] == pytest.approx(1.3, abs=0.02)
    assert found.evidence["growth_log10"] == pytest.approx(39 * 0.1139, abs=0.05)
    assert (found.evidence["share_clipped"], found.evidence["step"]) == (None, None)
    assert "grew by a factor of 1.30 a step" in found.summary
    assert "39 steps before the loss" in found.summary


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_gradient_that_stays_or_grows_a_little(factor: float) -> None:
    assert FIND["exploding-gradient"](recalling(growing(factor))) is None


def test_an_explosion_that_the_loop_clips_is_a_warning() -> None:
    found = FIND["exploding-gradient"](watched(growing(1.3), 1e-4, clip=0.1))
    assert found is not None
    assert found.severity == "warning"
    assert found.evidence["share_clipped"] == 1.0
    assert "100% of the steps were clipped" in found.summary


def test_an_explosion_that_the_loop_does_not_clip_is_an_error() -> None:
    found = FIND["exploding-gradient"](watched(growing(1.3), 1e-25))
    assert found is not None
    assert (found.severity, found.evidence["share_clipped"]) == ("error", 0.0)


def test_an_update_that_blew_everything_up() -> None:
    found = FIND["exploding-gradient"](only(watched(growing(1.5), 1e-6).case.history))
    assert found is not None
    assert (found.severity, found.evidence["step"]) == ("error", 1)
    assert found.evidence["update_ratio"] > 0.5
    assert found.evidence["sensitivity"] > 1e3
    assert f"the gradient's norm was {found.evidence['gradient_norm']:.3g}, unclipped" in found.summary


@pytest.mark.parametrize(
    ("model", "rate", "clip"),
    [
        (lambda: growing(1.5), 1e-6, 0.1),  # clipped
        (lambda: growing(1.5), 1e-25, None),  # as steep, and hardly a step was made
        (lambda: LastStep(orthogonal(1.0)), 30.0, None),  # a learning rate that is too high, of a usual gradient
    ],
)
def test_no_update_blew_anything_up(model: Callable[[], nn.Module], rate: float, clip: float | None) -> None:
    history = watched(model(), rate, clip, num_steps=2).case.history
    assert history is not None
    assert FIND["exploding-gradient"](only(history)) is None


def test_an_explosion_that_a_probe_saw_and_that_is_over() -> None:
    history = watched(growing(1.3), 1e-25, num_steps=3, every=2).case.history
    found = FIND["exploding-gradient"](only(history))
    assert found is not None
    assert (found.severity, found.evidence["step"]) == ("error", 2)
    assert "after step 2" in found.summary


def start_probed(model: nn.Module, scale: float, num_steps: int = 12) -> Evidence:
    """After a loop that makes hardly a step from weights that a probe saw, its losses times `scale`."""
    x, y = first_input()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-30)
    with watch(model, optimizer, every=100, max_overhead=None) as seen:
        for _ in range(num_steps):
            loss = mse(model(x), y).mean()
            loss.backward()
            seen.loss(scale * loss.detach())
            optimizer.step()
    seen.probe_start()
    return only(seen.record)


def test_an_explosion_at_the_start_that_a_loop_has_not_got_over() -> None:
    found = FIND["exploding-gradient"](start_probed(growing(1.3), 1.0))
    assert found is not None
    assert (found.severity, found.evidence["step"]) == ("error", 0)
    assert "before the first step" in found.summary


def test_an_explosion_at_the_start_that_a_loop_has_got_over() -> None:
    assert FIND["exploding-gradient"](start_probed(growing(1.3), 1e-20)) is None


def test_growth_after_an_ordinary_gradient_overwrote_the_weights() -> None:
    history = watched(LastStep(orthogonal(1.0)), 30.0, num_steps=2).case.history
    found = FIND["exploding-gradient"](recalling(growing(1.3), history=history))
    assert found is not None
    assert found.evidence["overwritten_at"] == 1
    assert "the update of step 1, of an ordinary gradient, had overwritten the weights before" in found.summary


@pytest.mark.parametrize("rate", [1e-25, 1e-3])  # nothing was overwritten; or by a gradient that had grown already
def test_growth_that_no_ordinary_update_came_before(rate: float) -> None:
    found = FIND["exploding-gradient"](watched(growing(1.3), rate, num_steps=2))
    assert found is not None
    assert "overwritten_at" not in found.evidence


# --- chaotic-dynamics ---


def test_small_changes_that_grow() -> None:
    found = FIND["chaotic-dynamics"](recalling(LastStep(orthogonal(3.0))))
    assert found is not None
    assert (found.severity, found.evidence["module"], found.evidence["num_steps"]) == ("error", "rnn.l0", 40)
    assert found.evidence["exponent_nats"] > found.evidence["exponent_error"] > 0
    assert f"exponent {found.evidence['exponent_nats']:.3f} ±" in found.summary


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.3])
def test_small_changes_that_fade_or_stay(gain: float) -> None:
    assert FIND["chaotic-dynamics"](recalling(LastStep(orthogonal(gain)))) is None


def test_without_a_known_recurrence_chaos_cannot_be_told() -> None:
    with pytest.raises(Missing, match="another model or other data"):
        FIND["chaotic-dynamics"](recalling(Pooled()))


class ByHand(nn.Module):
    """Numbers (T, B, 3) -> (B, 1), by equations of its own that nobody sees from outside."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        like = orthogonal(gain)
        self.w_in, self.w_rec = nn.Parameter(like.weight_ih_l0.detach()), nn.Parameter(like.weight_hh_l0.detach())
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), 16)
        for x_t in x:
            h = torch.tanh(x_t @ self.w_in.T + h @ self.w_rec.T)
        return self.out(h)


def test_small_changes_that_grow_in_a_cell_written_by_hand() -> None:
    found = FIND["chaotic-dynamics"](recalling(ByHand(3.0)))
    assert found is not None
    assert found.severity == "error"
    assert 0.1 < found.evidence["exponent_nats"] < 1.2
    assert "bounds the state" in found.summary
    assert FIND["chaotic-dynamics"](recalling(ByHand(1.0))) is None


# --- dead-units ---


class Pooled(nn.Module):
    """No recurrence at all."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.mean(0))


def partly_off(num_units: int) -> nn.Module:
    model = LastStep(orthogonal(1.0, "relu"))
    with torch.no_grad():
        model.rnn.bias_ih_l0[:num_units] = -20
        model.rnn.bias_ih_l0[num_units:] = 0.1
    return model


@pytest.mark.parametrize(("num_units", "severity"), [(15, "error"), (12, "warning"), (6, "warning")])
def test_units_that_are_always_off(num_units: int, severity: str) -> None:
    found = FIND["dead-units"](recalling(partly_off(num_units)))
    assert found is not None
    assert found.severity == severity
    assert found.evidence["share_dead"] == num_units / 16
    assert found.evidence["share_dead"] <= found.evidence["share_off"] < 1
    assert found.evidence["module"] == "rnn.l0.h"
    assert f"{num_units / 16:.0%} of the ReLU units of rnn.l0.h" in found.summary


@pytest.mark.parametrize("num_units", [0, 4])
def test_a_net_with_some_dead_units_is_an_ordinary_one(num_units: int) -> None:
    assert FIND["dead-units"](recalling(partly_off(num_units))) is None


def test_other_units_cannot_die() -> None:
    assert FIND["dead-units"](recalling(LastStep(orthogonal(1.0)))) is None
    with pytest.raises(Missing, match="a recurrence with tanh, sigmoid or ReLU units"):
        FIND["dead-units"](recalling(Pooled()))
