"""Conditional mutual information from counts, beside what the definition gives, and what chance gives."""

from __future__ import annotations

import math

import pytest
import torch

from throughtime.measurement.counts import Contexts, coded, dense, merged, paired


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


@pytest.mark.parametrize("seed", range(3))
def test_information_is_that_of_the_definition(seed):
    z, x = draw(4, 200, seed), draw(5, 200, seed + 10)
    y = (x + z + draw(2, 200, seed + 20)) % 3
    contexts = Contexts(z, y, seed)
    expected = by_definition(y, x, z)
    assert contexts.information(x).nats == pytest.approx(expected)
    assert contexts.local(x).mean().item() == pytest.approx(expected)
    assert contexts.left == pytest.approx(by_definition(y, y, z))


def test_many_tables_at_once_are_what_each_of_them_gives(monkeypatch):
    z, x, y = draw(4, 300), draw(5, 300, 1), draw(3, 300, 2)
    expected = Contexts(z, y, 0).counted(x)
    monkeypatch.setattr("throughtime.measurement.counts._MOST_CELLS", 100)
    torch.testing.assert_close(Contexts(z, y, 0).counted(x), expected)


def test_a_rotation_keeps_the_targets_of_each_group_and_changes_their_places():
    z, y = draw(3, 500), draw(4, 500, 1)
    contexts = Contexts(z, y, 0)
    found = contexts._turned
    assert all(torch.equal(row.sort().values, found[0].sort().values) for row in found)
    assert all((row != found[0]).double().mean() > 0.5 for row in found[1:])


def test_what_tells_all_is_all_that_is_left_and_what_tells_nothing_is_nothing():
    z, y = draw(4, 2000), draw(6, 2000, 1)
    contexts = Contexts(z, y, 0)
    assert contexts.information(y).adjusted == pytest.approx(contexts.left)
    assert contexts.information(y).probability < 1e-100
    assert contexts.information(draw(6, 2000, 2)).adjusted == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize("num_groups", [1, 8, 150])
def test_chance_is_taken_for_more_no_more_often_than_its_level(num_groups):
    z, y = draw(num_groups, 600), draw(5, 600, 1)
    contexts = Contexts(z, y, 0)
    found = [contexts.information(draw(7, 600, seed)).probability < 0.05 for seed in range(2, 202)]
    assert 0 < sum(found) < 20  # of 200, about 10 by the level, fewer since it is rather not taken for more


def slow(seed, num_rows=600):
    """Of three kinds; one is kept for twenty rows on average."""
    generator = torch.Generator().manual_seed(seed)
    changes = (torch.rand(num_rows, generator=generator) < 0.05).cumsum(0)
    return torch.randint(3, (num_rows,), generator=generator)[changes]


def test_what_changes_slowly_is_not_taken_for_more():
    """Rows that follow one another are no independent draws: 600 of them are worth about 30."""
    pairs = [(slow(2 * seed), slow(2 * seed + 1)) for seed in range(60)]
    found = [Contexts(torch.zeros_like(y), y, 0).information(x).probability < 0.01 for x, y in pairs]
    assert sum(found) <= 3


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


def test_groups_that_foretell_alike_become_one():
    groups = draw(40, 8000)
    chance = torch.tensor([0.1, 0.5, 0.9])[groups % 3]
    y = (torch.rand(8000, generator=torch.Generator().manual_seed(1)) < chance).long()
    found = merged(groups, y, 3)
    assert int(found.max()) == 2
    assert len(paired(found, groups % 3).unique()) == 3
    assert torch.equal(merged(groups, y, 40), dense(groups))
