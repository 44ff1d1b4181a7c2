"""How far back data is needed where no single lag shows it: data whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.blocks import holds_signal, need_by_blocks, need_from_start
from throughtime.measurement.needs import need

SEEDS = range(3)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def marked(seed: int, num_marks: int, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Numbers, some of which are marked between two steps, and the sum of these."""
    draw = generator(seed)
    x = torch.rand(40, 300, 2, generator=draw)
    x[..., 1] = 0
    order = torch.rand(last - first, 300, generator=draw).argsort(0)[:num_marks] + first
    rows = torch.arange(300)
    for at in order:
        x[at, rows, 1] = 1
    return x, sum(x[at, rows, 0] for at in order)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("num_marks", [1, 2])
def test_marked_numbers_that_may_stand_anywhere(num_marks: int, seed: int) -> None:
    x, y = marked(seed, num_marks, 0, 40)
    found = need_by_blocks(x, y, time_dim=0, seed=seed)
    assert found is not None
    assert (found.lower, found.upper, found.num_rows) == (32, 39, 300)
    assert 0.5 < found.explained <= 1
    assert need_by_blocks(x.transpose(0, 1), y, time_dim=1, seed=seed) == found


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_end_where_the_signal_does(seed: int) -> None:
    x, y = marked(seed, 1, 33, 37)  # at lags 3 to 6
    found = need_by_blocks(x, y, time_dim=0, seed=seed)
    assert found is not None
    assert (found.lower, found.upper) == (4, 7)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_keyword_anywhere(seed: int) -> None:
    draw = generator(seed)
    ids = torch.randint(1, 30, (40, 400), generator=draw)
    labels = torch.randint(2, (400,), generator=draw)
    rows = labels.nonzero().flatten()
    ids[torch.randint(40, (rows.numel(),), generator=draw), rows] = 0
    found = need_by_blocks(ids, labels, time_dim=0, seed=seed)
    assert found is not None
    assert found.lower in (16, 32)
    assert need(ids, labels, time_dim=0, seed=seed).need is None


def test_a_target_at_each_step() -> None:
    x = torch.randn(60, 40, 1, generator=generator(0))
    y = x.unfold(0, 6, 1).sum(-1)  # the last six inputs
    found = need_by_blocks(x[5:], y, time_dim=0)
    assert found is not None
    assert (found.lower, found.upper) == (4, 7)


def test_lengths_count_from_the_ends() -> None:
    x, y = marked(0, 1, 33, 37)
    lengths = torch.randint(40, 61, (300,), generator=generator(1))
    later = torch.zeros(60, 300, 2)
    for row, length in enumerate(lengths.tolist()):
        later[length - 40 : length, row] = x[:, row]
    found = need_by_blocks(later, y, time_dim=0, lengths=lengths)
    assert found is not None
    assert (found.lower, found.upper) == (4, 7)
    assert need_by_blocks(later, y, time_dim=0) != found


@pytest.mark.parametrize("seed", range(8))
def test_where_there_is_nothing_there_is_no_block(seed: int) -> None:
    draw = generator(seed)
    x = torch.randn(20, 200, 2, generator=draw)
    assert need_by_blocks(x, torch.randn(200, generator=draw), time_dim=0, seed=seed) is None


@pytest.mark.parametrize("y", [torch.ones(200), torch.zeros(200, dtype=torch.long)])
def test_a_target_that_never_changes_needs_nothing(y: Tensor) -> None:
    assert need_by_blocks(torch.randn(20, 200, 2), y, time_dim=0) is None


def test_too_few_rows_or_steps_tell_nothing() -> None:
    x = torch.randn(20, 23, 2)
    assert need_by_blocks(x, x.sum((0, 2)), time_dim=0) is None
    x = torch.randn(1, 200, 2)
    assert need_by_blocks(x, x.sum((0, 2)), time_dim=0) is None


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(InputError, match="neither one for each of 200 sequences"):
        need_by_blocks(torch.randn(20, 200, 2), torch.zeros(7), time_dim=0)
    with pytest.raises(InputError, match="lengths must be 200 numbers from 1 to 20"):
        need_by_blocks(torch.randn(20, 200, 2), torch.zeros(200), time_dim=0, lengths=[21] * 200)


def test_the_same_seed_gives_the_same_answer_and_draws_nothing_of_others() -> None:
    x, y = marked(0, 1, 0, 40)
    state = torch.get_rng_state()
    assert need_by_blocks(x, y, time_dim=0, seed=4) == need_by_blocks(x, y, time_dim=0, seed=4)
    assert torch.equal(torch.get_rng_state(), state)


# --- from the start ---


def padded(seed: int) -> tuple[Tensor, Tensor]:
    draw = generator(seed)
    x, lengths = torch.randn(30, 300, 2, generator=draw), torch.randint(12, 31, (300,), generator=draw)
    return x * (torch.arange(30).unsqueeze(1) < lengths).unsqueeze(2), lengths


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("step", [0, 3])
def test_a_step_after_the_start_of_sequences_of_many_lengths(step: int, seed: int) -> None:
    x, lengths = padded(seed)
    lengths[0], lengths[1] = 12, 30
    found = need_from_start(x, x[step, :, 1], lengths, time_dim=0, seed=seed)
    assert found is not None
    assert (found.lower, found.upper, found.num_rows) == (11 - step, 29 - step, 300)
    assert found.explained > 0.9
    assert need_from_start(x.transpose(0, 1), x[step, :, 1], lengths, time_dim=1, seed=seed) == found


def test_the_oldest_of_several_steps_counts() -> None:
    x, lengths = padded(0)
    lengths[0] = 12
    found = need_from_start(x, x[2, :, 0] + x[7, :, 0], lengths, time_dim=0)
    assert found is not None
    assert found.lower == 9


def test_nothing_at_the_start() -> None:
    x, lengths = padded(0)
    noise = torch.randn(300, generator=generator(9))
    assert need_from_start(x, noise, lengths, time_dim=0) is None
    assert need_from_start(x, torch.ones(300), lengths, time_dim=0) is None
    assert need_from_start(x[:, :23], x[0, :23, 0], lengths[:23], time_dim=0) is None


# --- whether there is any signal ---


@pytest.mark.parametrize("time_dim", [0, 1])
def test_means_and_squares_of_sequences_are_signals(time_dim: int) -> None:
    x = torch.randn(20, 200, 2, generator=generator(0))
    lying = x.movedim(0, time_dim)
    assert holds_signal(lying, x.sum((0, 2)), time_dim=time_dim)
    assert holds_signal(lying, (x[..., 0].square().mean(0) > 1).long(), time_dim=time_dim)


def test_words_of_a_large_vocabulary_are_signals_together() -> None:
    ids = torch.randint(400, (20, 300), generator=generator(0))
    assert holds_signal(ids, ((ids % 2).sum(0) > 10).long(), time_dim=0)


def test_noise_is_taken_for_a_signal_as_often_as_the_level_says() -> None:
    x = torch.randn(10, 100, 2, generator=generator(0))
    found = [holds_signal(x, torch.randn(100, generator=generator(seed)), time_dim=0, seed=seed) for seed in range(60)]
    assert sum(found) <= 4  # of 60 at the 1 % level: more has a probability of 0.0003


def test_what_is_padding_does_not_count() -> None:
    draw = generator(0)
    x, labels = torch.randn(20, 200, 1, generator=draw), torch.randint(2, (200,), generator=draw)
    x[15:] = labels.view(1, 200, 1).float()
    assert holds_signal(x, labels, time_dim=0)
    assert not holds_signal(x, labels, time_dim=0, lengths=torch.full((200,), 15))


@pytest.mark.parametrize("features", [(), (3,)])
def test_inputs_are_taken_as_need_takes_them(features: tuple[int, ...]) -> None:
    """One number a step without an axis of features, and several whole numbers a step, which are no ids."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(9, (20, 200, *features), generator=draw)
    x = x if features else x.double()
    first = (x[..., 0] if features else x).double()
    noise = torch.randn(200, generator=draw)
    assert holds_signal(x, first.mean(0), time_dim=0)
    assert not holds_signal(x, noise, time_dim=0)
    ends = torch.full((200,), 20)
    ends[::2] = 15
    found = need_from_start(x, first[3], ends, time_dim=0)
    assert found is not None
    assert (found.lower, found.upper) == (11, 16)
