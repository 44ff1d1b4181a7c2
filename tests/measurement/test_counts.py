"""Conditional mutual information from counts, beside what the definition gives, and what chance gives."""

from __future__ import annotations

import math

import pytest
import torch

from throughtime.measurement.counts import Contexts, Foretold, alike, coded, dense, paired


def draw(num_kinds, num_rows, seed=0):
    return torch.randint(num_kinds, (num_rows,), generator=torch.Generator().manual_seed(seed))


def by_definition(y, x, z):
    """I(y; x | z) of what was drawn, as a sum over all that there is."""
    total, rows = 0.0, len(y)
    for a in y.unique():
        for b in x.unique():
            for c in z.unique():
                joint = ((y == a) & (x == b) & (z == c)).sum().item()
                if joint:
                    of_y, of_x = ((y == a) & (z == c)).sum().item(), ((x == b) & (z == c)).sum().item()
                    total += joint / rows * math.log(joint * (z == c).sum().item() / (of_y * of_x))
    return total


def by_share(groups, y):
    """Foretold as often as it is in each group."""
    counts = torch.nn.functional.one_hot(y).double()
    table = torch.zeros(int(groups.max()) + 1, counts.size(1), dtype=torch.float64).index_add(0, groups, counts)
    return (table / table.sum(1, keepdim=True))[groups]


def told(y, groups=None, shares=None, seed=0):
    groups = torch.zeros_like(y) if groups is None else groups
    return Contexts(groups, Foretold(y, by_share(groups, y) if shares is None else shares, seed))


@pytest.mark.parametrize("seed", range(3))
def test_where_a_group_is_foretold_by_its_shares_it_is_the_conditional_information_of_the_definition(seed):
    z, x = draw(4, 200, seed), draw(5, 200, seed + 10)
    y = (x + z + draw(2, 200, seed + 20)) % 3
    expected = by_definition(y, x, z)
    assert told(y, z, seed=seed).information(x).nats == pytest.approx(expected)
    assert told(y, shares=by_share(z, y)).information(x).nats < expected  # what z alone decides is not asked for


def test_what_is_foretold_is_not_told_again():
    x, noise = draw(5, 2000), draw(2, 2000, 1)
    y = (x * noise) % 3
    found = told(y, shares=by_share(x, y)).information(x)
    assert found.nats == pytest.approx(0, abs=1e-9)
    assert told(y).information(x).probability < 1e-100


def test_targets_are_drawn_as_was_foretold():
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]], dtype=torch.float64).repeat(500, 1)
    foretold = Foretold(draw(3, 1000), shares, 0)
    drawn = torch.cat([foretold.few[1:], foretold.more])
    for start in (0, 1):
        found = torch.bincount(drawn[:, start::2].flatten(), minlength=3) / drawn[:, start::2].numel()
        torch.testing.assert_close(found, shares[start].float(), atol=0.01, rtol=0)


def test_many_tables_at_once_are_what_each_of_them_gives(monkeypatch):
    z, x, y = draw(4, 300), draw(5, 300, 1), draw(3, 300, 2)
    expected = told(y, z).counted(x)
    monkeypatch.setattr("throughtime.measurement.counts._MOST_CELLS", 100)
    torch.testing.assert_close(told(y, z).counted(x), expected)


@pytest.mark.parametrize("num_groups", [1, 8, 30])
def test_chance_is_taken_for_more_no_more_often_than_its_level(num_groups):
    z, y = draw(num_groups, 600), draw(5, 600, 1)
    contexts = told(y, z, torch.full((600, 5), 0.2, dtype=torch.float64))
    found = [contexts.information(draw(7, 600, seed)).probability < 0.05 for seed in range(2, 202)]
    assert 0 < sum(found) < 20  # of 200, about 10 by the level, fewer since it is rather not taken for more


def test_what_two_bits_have_to_do_with_one_another_is_about_as_improbable_as_chi_square_says():
    x = torch.arange(1000) % 2
    y = torch.cat([x[:564], 1 - x[564:]])  # chi-square is 16.4 with one degree of freedom, which has 5e-5
    info = told(y, shares=torch.full((1000, 2), 0.5, dtype=torch.float64)).information(x)
    assert info.nats == pytest.approx(8.2e-3, abs=1e-4)
    assert 5e-5 < info.probability < 1e-3


def slow(seed, num_rows=2000):
    """Of three kinds; one is kept for twenty rows on average."""
    generator = torch.Generator().manual_seed(seed)
    changes = (torch.rand(num_rows, generator=generator) < 0.05).cumsum(0)
    return torch.randint(3, (num_rows,), generator=generator)[changes]


def test_what_changes_slowly_is_not_taken_for_more():
    """Rows that follow one another are no independent draws: 2000 of them are worth some hundred."""
    found, naive = 0, 0
    for seed in range(60):
        contexts, x = told(slow(2 * seed)), slow(2 * seed + 1)
        info = contexts.information(x)
        found += info.inflated(contexts.inflation(x)).probability < 0.01
        naive += info.probability < 0.01
    assert found <= 3
    assert naive > 30


def test_independent_rows_are_worth_what_they_are():
    found = torch.tensor([told(draw(4, 2000, seed)).inflation(draw(6, 2000, seed + 100)) for seed in range(20)])
    assert float(found.max()) < 1.6
    assert float(found.mean()) < 1.2


def test_few_ids_keep_a_code_each_and_of_many_the_commonest_do():
    few = draw(32, 3000)
    codes = coded(few)
    assert len(codes.unique()) == len(paired(codes, few).unique()) == 32
    many = (5000 * torch.rand(20000, generator=torch.Generator().manual_seed(0)).pow(4)).long()
    codes = coded(many)
    assert int(codes.max()) + 1 == 32
    common = torch.bincount(many).topk(20).indices
    assert all(len(codes[many == kind].unique()) == 1 for kind in common)
    assert len(codes[torch.isin(many, common)].unique()) == 20


def test_a_rare_id_has_the_same_code_wherever_it_comes():
    first, second = draw(100_000, 3000), draw(100_000, 3000, 1)
    second[:1000] = first[:1000]
    one, other = coded(first), coded(second)
    assert torch.equal(one[:1000], other[:1000])
    assert len(one.unique()) == 8


@pytest.mark.parametrize("most", [50, 10**12])
def test_labels_are_numbered_in_their_order(most):
    labels = draw(most, 60)
    torch.testing.assert_close(dense(labels), labels.unique(return_inverse=True)[1])


def test_more_draws_are_of_the_same_kind():
    z, x, y = draw(4, 300), draw(5, 300, 1), draw(3, 300, 2)
    contexts = told(y, z)
    first = contexts.counted(x)
    more = contexts.counted_more(x, first)
    torch.testing.assert_close(more[: len(first)], first)
    assert len(more) > 5 * len(first)
    assert float(more[len(first) :].mean()) == pytest.approx(float(first[1:].mean()), rel=0.2)


def test_rows_of_which_much_the_same_is_foretold_are_one_group():
    kinds = draw(3, 8000)
    shares = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)[kinds]
    shares = shares + 0.01 * torch.rand(8000, 1, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, -1.0])
    found = alike(shares, 3, seed=0)
    assert torch.equal(dense(found), found)
    assert len(found.unique()) == len(paired(found, kinds).unique()) == 3
    assert len(alike(shares[:1].expand(50, -1), 3, seed=0).unique()) == 1
