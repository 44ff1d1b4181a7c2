"""Whether batches go on from one another, told by how their steps follow from those before."""

from __future__ import annotations

import pytest
import torch

from throughtime.measurement.watch_seams import Seams

NUM_BATCHES, B, T = 40, 8, 12


def link(batches, time=0):
    seams = Seams()
    for x, y in batches:
        seams.add(x, y)
    return seams.link(time)


def ripples(generator):
    """(T * N, B, 1) smooth numbers, each lane its own."""
    noise = torch.randn(NUM_BATCHES * T, B, 1, generator=generator)
    series = [noise[0], noise[1]]
    for each in noise[2:]:
        series.append(1.5 * series[-1] - 0.7 * series[-2] + each)
    return torch.stack(series)


def chains(generator):
    """(T * N, B) ids, of which each mostly has one that follows it."""
    following = torch.randperm(6, generator=generator)
    ids = [torch.randint(6, (B,), generator=generator)]
    for _ in range(NUM_BATCHES * T - 1):
        other = torch.randint(6, (B,), generator=generator)
        ids.append(torch.where(torch.rand(B, generator=generator) < 0.2, other, following[ids[-1]]))
    return torch.stack(ids)


def cut(x, y=None):
    return list(zip(x.split(T), [None] * NUM_BATCHES if y is None else y.split(T), strict=True))


def shuffled(batches, generator):
    return [batches[at] for at in torch.randperm(len(batches), generator=generator)]


@pytest.mark.parametrize("made", [ripples, chains])
def test_windows_of_the_same_lanes_and_those_in_another_order(made):
    generator = torch.Generator().manual_seed(0)
    batches = cut(made(generator))
    on = link(batches)
    assert abs(on.share - 1) < 3 * on.error
    assert on.error < 0.1
    apart = link(shuffled(batches, generator))
    assert abs(apart.share) < 3 * apart.error
    assert apart.error < 0.1


def test_time_may_be_the_second_axis():
    batches = [(x.transpose(0, 1), None) for x, _ in cut(ripples(torch.Generator().manual_seed(0)))]
    found = link(batches, time=1)
    assert abs(found.share - 1) < 3 * found.error


def test_white_noise_tells_nothing_but_what_is_made_of_it_does():
    """The target is a sum that leaks; inputs alone say nothing of one another."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(NUM_BATCHES * T, B, 2, generator=generator)
    leaking = [x[0, :, 0]]
    for each in x[1:]:
        leaking.append(0.7 * leaking[-1] + each[:, 0])
    assert link(cut(x)) is None
    for form in (torch.stack(leaking), torch.stack(leaking).unsqueeze(-1)):
        found = link(cut(x, form))
        assert abs(found.share - 1) < 3 * found.error
    joined = [(a, b.flatten()) for a, b in cut(x, torch.stack(leaking))]
    assert link(joined).share == pytest.approx(link(cut(x, torch.stack(leaking))).share)


def test_a_place_that_is_told_by_the_place_before_and_the_step_together():
    generator = torch.Generator().manual_seed(2)
    steps = torch.randint(2, (NUM_BATCHES * T, B, 1), generator=generator).float()
    place = steps.squeeze(-1).long().cumsum(0) % 3
    on = link(cut(steps, place))
    assert abs(on.share - 1) < 3 * on.error
    fresh = [(x, x.squeeze(-1).long().cumsum(0) % 3) for x, _ in cut(steps)]
    assert abs(link(fresh).share) < 3 * link(fresh).error


def test_sums_that_begin_anew_in_every_row_do_not_go_on():
    """Where they begin they have a small part of the variance that they come to."""
    generator = torch.Generator().manual_seed(0)
    amounts = torch.randn(NUM_BATCHES, 25, B, generator=generator)
    signs = torch.randint(2, amounts.shape, generator=generator)
    batches = zip(amounts, signs, strict=True)
    found = link([(torch.stack([x, sign], -1), (x * (2 * sign - 1)).cumsum(0)) for x, sign in batches])
    assert found is not None
    assert abs(found.share) < 3 * found.error
    assert found.error < 0.1


def test_sequences_of_several_windows_are_told_by_their_share():
    generator = torch.Generator().manual_seed(3)
    batches = [piece for _ in range(4) for piece in cut(ripples(generator))[:10]]
    found = link(batches)
    assert abs(found.share - 36 / 39) < 3 * found.error
    halves = [piece for _ in range(20) for piece in cut(ripples(generator))[:2]]
    assert abs(link(halves).share - 20 / 39) < 3 * link(halves).error


def test_a_smaller_batch_now_and_then_parts_those_around_it():
    generator = torch.Generator().manual_seed(0)
    batches = [(x[:, :5] if at % 7 == 6 else x, None) for at, (x, _) in enumerate(cut(ripples(generator)))]
    found = link(batches)
    assert abs(found.share - 1) < 3 * found.error


def test_too_few_batches_words_of_many_kinds_and_single_steps_tell_nothing():
    generator = torch.Generator().manual_seed(0)
    assert link(cut(ripples(generator))[:8]) is None
    assert link([]) is None
    assert link(cut(torch.arange(NUM_BATCHES * T * B).view(-1, B) % 100)) is None
    assert link([(each.unsqueeze(0), None) for each in ripples(generator)[:30]]) is None
    constant = [(torch.ones(T, B, 1), torch.zeros(T, B, dtype=torch.long))] * 20
    assert link(constant) is None
    assert link([(torch.full((T, B, 1), torch.nan), None)] * 20) is None
