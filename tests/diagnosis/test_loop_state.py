"""A state that a loop, or the model itself, takes from batch to batch, and batches that go on or do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import evidence, mse
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.panel import RULES
from throughtime.diagnosis.state_trial import state_trial
from throughtime.measurement import watch

FIND = {rule.code: rule.find for rule in RULES}["state-carried-wrongly"]
NUM_BATCHES, B, T = 30, 12, 10
Batches = list[tuple[Tensor, Tensor]]


class Keeper(nn.Module):
    """Keeps its state from call to call, in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 8, batch_first=True)
        self.out = nn.Linear(8, 1)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h, last = self.rnn(x, self.kept)
        self.kept = last.detach()
        return self.out(h)

    def reset(self) -> None:
        self.kept = None


class Handing(Keeper):
    """Gives its state away."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h, last = self.rnn(x, state)
        return self.out(h), last


def rows(*, noise: bool = False) -> Batches:
    """Windows of long rows (B, T, 2) that go on from one to the next; the targets follow from older inputs."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(NUM_BATCHES * T, B, 2, generator=generator)
    smooth = [drawn[0]]
    for each in drawn[1:]:
        smooth.append(each if noise else 0.9 * smooth[-1] + each)
    x = torch.stack(smooth).transpose(0, 1)
    y = x[..., 0] * (1.0 if noise else 0.5)
    return list(zip(x.split(T, 1), y.split(T, 1), strict=True))


def shuffled(batches: Batches) -> Batches:
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(1))
    return [batches[at] for at in order]


def kept(
    batches: Batches, between: Callable[[Keeper], None] = lambda _: None, *, rate: float = 1e-3, trial: bool = False
) -> Evidence:
    """A loop over a model that keeps its state."""
    torch.manual_seed(0)
    model = Keeper()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with watch(model, optimizer, sample_every=1, max_overhead=None) as seen:
        for x, y in batches:
            loss = mse(model(x), y).mean()
            optimizer.zero_grad()
            loss.backward()
            seen.loss(loss, y)
            optimizer.step()
            between(model)
    model.kept = None
    return evidence(
        model, *batches[-1], mse, optimizers=(optimizer,), history=seen.record, batches=seen.batches if trial else ()
    )


def handed(batches: Batches) -> Evidence:
    """A loop that hands its state from each batch to the next."""
    torch.manual_seed(0)
    model = Handing()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    state = None
    with watch(model, optimizer, sample_every=1, max_overhead=None) as seen:
        for x, y in batches:
            outputs, state = model(x, state)
            state = state.detach()
            loss = mse(outputs, y).mean()
            optimizer.zero_grad()
            loss.backward()
            seen.loss(loss, y)
            optimizer.step()
    return evidence(model, *batches[-1], mse, history=seen.record)


def wrong(found: Finding | None) -> Finding:
    assert found is not None
    assert found.severity == "error"
    return found


def test_a_model_that_keeps_its_state_over_windows_that_go_on() -> None:
    assert FIND(kept(rows())) is None


def test_a_model_that_keeps_its_state_over_windows_in_any_order() -> None:
    found = wrong(FIND(kept(shuffled(rows()))))
    assert found.evidence["kept"] == 1
    assert abs(found.evidence["going_on"]) < 3 * found.evidence["going_on_error"]
    assert "those of the batch before tell" in found.summary


def test_a_loop_that_makes_its_model_forget() -> None:
    assert FIND(kept(shuffled(rows()), Keeper.reset)) is None


def test_noise_cannot_tell_whether_batches_go_on() -> None:
    with pytest.raises(Missing, match="whether each goes on"):
        FIND(kept(rows(noise=True)))


def sums(*, going_on: bool) -> Batches:
    """Batches of noise (B, T, 2), and the running sums of the first number over each, or over all of them."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(NUM_BATCHES, B, T, 2, generator=generator)
    y = x[..., 0].cumsum(2)
    before = y[..., -1:].cumsum(0) - y[..., -1:]
    return list(zip(x, y + before if going_on else y, strict=True))


def test_of_noise_the_state_that_it_shares_tells() -> None:
    found = wrong(FIND(kept(sums(going_on=False), rate=2e-2, trial=True)))
    assert found.evidence["loss_reset"] < found.evidence["loss_carried"] - 4 * found.evidence["standard_error"]
    assert "a state that is reset before each" in found.summary


def test_targets_whose_axes_the_loss_wants_joined_are_those_at_hand() -> None:
    seen = kept(sums(going_on=False), rate=2e-2, trial=True)
    joined = tuple((x, y.flatten()) for x, y in seen.case.batches)
    expected = state_trial(seen.case)
    assert state_trial(replace(seen.case, batches=joined)) == expected
    turned = tuple((x, y.t().flatten()) for x, y in seen.case.batches)
    with pytest.raises(Missing, match="with their targets"):
        state_trial(replace(seen.case, batches=turned))


def test_a_state_that_does_nothing_says_nothing() -> None:
    with pytest.raises(Missing, match="with this state come to a loss of"):
        FIND(kept(rows(noise=True), rate=2e-2, trial=True))


def test_a_state_that_goes_on_as_its_targets_do_is_left_alone() -> None:
    seen = kept(sums(going_on=True), rate=2e-2, trial=True)
    assert FIND(seen) is None
    assert not state_trial(seen.case).hurts


def test_a_loop_that_hands_its_state_to_windows_that_go_on_or_do_not() -> None:
    assert FIND(handed(rows())) is None
    found = wrong(FIND(handed(shuffled(rows()))))
    assert found.evidence["handed_on"] == 1
    assert "a state enters sequences that it does not belong to" in found.summary


def test_noise_says_nothing_against_a_loop() -> None:
    assert FIND(handed(rows(noise=True))) is None
