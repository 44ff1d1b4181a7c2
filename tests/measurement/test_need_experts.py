"""What a pool of experts foretells, beside what is true of data whose law is known."""

from __future__ import annotations

import pytest
import torch

from throughtime.measurement.counts import dense, paired
from throughtime.measurement.need_experts import Experts

SEEDS = range(3)


def draw(num_kinds, num_rows, seed=0):
    return torch.randint(num_kinds, (num_rows,), generator=torch.Generator().manual_seed(seed))


def foretold(y, inputs):
    """The forecasts without any input, with the first, with two ..."""
    experts = Experts(y)
    found = [experts.told_nothing()]
    for codes in inputs:
        before = found[-1]
        groups = dense(before.context)
        found.append(experts.told(before, codes, dense(paired(before.context, codes)), groups % 20))
    return experts, found


def votes(count, num_rows, seed):
    """The same bit again and again, each wrong one time in five; and the shares that all of them give."""
    truth, wrong = draw(2, num_rows, seed), draw(5, num_rows * (count + 1), seed + 1).view(-1, num_rows) == 0
    seen = truth ^ wrong.long()
    odds = (2 * seen[1:] - 1).sum(0) * torch.tensor(4.0, dtype=torch.float64).log()
    of_truth = odds.sigmoid()
    return seen[0], seen[1:], of_truth * 0.8 + (1 - of_truth) * 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_votes_add_up_as_they_should(seed):
    """Of nine votes there are 512 contexts, most of them rare: 3000 rows teach all but a tenth of what can be known."""
    y, inputs, right = votes(9, 3000, seed)
    experts, found = foretold(y, inputs)
    chance = float(torch.tensor(2.0).log())
    best = float(-torch.where(y == 1, right, 1 - right).log().mean())
    losses = [float(experts.loss(each.shares).mean()) for each in found]
    assert losses[0] == pytest.approx(chance, abs=0.01)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] - best < 0.15 * (chance - best)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_inputs_tell_only_together_is_foretold_by_their_context(seed):
    first, second = draw(4, 3000, seed), draw(4, 3000, seed + 10)
    wrong = draw(10, 3000, seed + 20) == 0
    y = torch.where(wrong, draw(4, 3000, seed + 30), (first + second) % 4)
    experts, (nothing, one, both) = foretold(y, [first, second])
    shares = torch.tensor([0.925, 0.025, 0.025, 0.025])
    assert float(experts.loss(one.shares).mean()) > float(experts.loss(nothing.shares).mean()) - 0.01
    assert float(experts.loss(both.shares).mean()) == pytest.approx(float(torch.special.entr(shares).sum()), abs=0.06)


@pytest.mark.parametrize("seed", SEEDS)
def test_inputs_that_say_nothing_foretell_nothing(seed):
    """On rows that were held out noise spares no nats, however many inputs there are of it."""
    y = draw(6, 800, seed)
    experts, found = foretold(y, [draw(6, 800, seed + lag) for lag in range(1, 9)])
    spared = experts.loss(found[0].shares) - experts.loss(found[-1].shares)
    assert float(spared.mean()) < 0.01, float(spared.mean())


def test_shares_are_shares_and_nothing_is_impossible():
    x = draw(5, 400)
    experts, found = foretold(x, [x])
    for each in found:
        torch.testing.assert_close(each.shares.sum(1), torch.ones(400, dtype=torch.float64))
        assert float(each.shares.min()) > 0
    assert float(experts.loss(found[-1].shares).mean()) < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_foretold_comes_true_as_often_as_it_is_said(seed):
    """One of two inputs again, whichever: no sum of log ratios says that, and without more it is far too sure."""
    first, second = draw(40, 6000, seed), draw(40, 6000, seed + 10)
    y = torch.where(draw(2, 6000, seed + 20) == 0, first, second)
    experts, found = foretold(y, [first, second])
    shares = found[-1].shares
    errors = torch.nn.functional.one_hot(y, 40) - shares
    assert float(errors.square().sum()) == pytest.approx(float((shares * (1 - shares)).sum()), rel=0.05)
    best = float(torch.where(first == second, 0.0, torch.tensor(2.0).log()).mean())
    assert float(experts.loss(shares).mean()) < 1.05 * best


@pytest.mark.parametrize("seed", SEEDS)
def test_experts_that_say_the_same_share_what_one_of_them_would_have(seed):
    """A matrix that is nearly singular all the same has a solution, and held-out rows are foretold as well."""
    y, inputs, _ = votes(1, 3000, seed)
    experts = Experts(y)
    one = experts._alone(inputs[0])
    copies = torch.stack([one, one, one * (1 + 1e-6), one - 1e-6 * one.square()])
    weight, alone = experts._pooled(one.unsqueeze(0), torch.zeros(1))
    weights, together = experts._pooled(copies, torch.zeros(4))
    assert float(weights.min()) >= 0
    assert float(weights.sum()) == pytest.approx(float(weight), rel=0.02)
    assert float(weights.max()) < 0.5 * float(weight)
    torch.testing.assert_close(together, alone, atol=0.01, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_row_is_not_foretold_by_its_own_target(seed):
    """Each row has a context of its own: nothing can be known of it."""
    y = draw(3, 300, seed)
    experts, (nothing, one) = foretold(y, [torch.arange(300)])
    assert float(experts.loss(one.shares).mean()) == pytest.approx(float(experts.loss(nothing.shares).mean()), abs=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_many_inputs_say_at_once(seed):
    y, inputs, right = votes(9, 3000, seed)
    experts = Experts(y)
    nothing = experts.told_nothing()
    shares = experts.told_together(nothing, list(inputs), [1.0] * 9)
    best = float(-torch.where(y == 1, right, 1 - right).log().mean())
    before, after = (float(experts.loss(each).mean()) for each in (nothing.shares, shares))
    assert after - best < 0.2 * (before - best)  # the sum alone does not know that even all of them may be wrong
    noise = experts.told_together(nothing, [draw(2, 3000, seed + lag) for lag in range(50, 59)], [0.5] * 9)
    assert float(experts.loss(noise).mean()) > before - 0.002
