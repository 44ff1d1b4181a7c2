"""What is known of a case: need, progress, and the data that both are told from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import LastStep, evidence, first_input, mse, orthogonal
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.errors import InputError


class Padded(nn.Module):
    """(T, B, 3) and lengths -> (B, 1), from the last step of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(3, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][lengths - 1, torch.arange(x.size(1))])


def padded(num_steps: int, num_sequences: int, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Each target is the third input of its sequence."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(num_steps - 5, num_steps + 1, (num_sequences,), generator=draw)
    lengths[0] = num_steps
    x = torch.randn(num_steps, num_sequences, 3, generator=draw)
    return (x * (torch.arange(num_steps).unsqueeze(1) < lengths).unsqueeze(2), lengths), x[2, :, 0]


def test_what_the_user_says_is_the_need() -> None:
    x, _ = first_input()
    assert evidence(LastStep(nn.RNN(3, 4)), x, torch.randn(64), mse, need=7, time_dim=0).need == 7


def test_need_is_told_by_blocks_where_lags_cannot_tell() -> None:
    x, rows = torch.randn(40, 250, 3), torch.arange(250)
    x[..., 2] = 0
    marked = torch.randint(24, (250,))
    x[marked, rows, 2] = 1
    y = x[37, :, 0] + x[marked, rows, 1]  # one number at lag 2, and a marked one at lags 16 to 39
    given = evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0)
    assert given.need_record.need is None  # it sees that there is more than lag 2, and not how far back
    assert given.block_need is not None
    assert (given.block_need.lower, given.block_need.upper) == (32, 39)
    assert given.need == 32
    assert evidence(LastStep(nn.RNN(3, 4)), x, x[37, :, 0], mse, time_dim=0).need == 2


def test_sequences_of_validation_count_for_the_need() -> None:
    x, y = first_input(30, 20)
    alone = evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0)
    with pytest.raises(Missing, match="need has 30 rows"):
        _ = alone.need_record
    more = evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0, validation=first_input(170, 20, seed=2))
    assert (more.need_record.num_rows, more.need) == (200, 19)
    shorter = evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0, validation=first_input(170, 15, seed=2))
    assert not shorter.has("need_record")  # what has another form does not


def test_lengths_of_validation_are_found_among_its_inputs() -> None:
    (x, lengths), y = padded(20, 60, 1)
    more, targets = padded(24, 240, 2)
    given = evidence(Padded(), (x, lengths), y, mse, lengths=lengths, time_dim=0, validation=(more, targets))
    assert given.need_record.num_rows == 300
    assert given.block_need is not None
    assert given.block_need.lower == int(min(lengths.min(), more[1].min())) - 3
    assert given.need == given.block_need.lower


def small(**options: Any) -> Evidence:
    """Of a batch too small to tell a need, with others behind it."""
    x, y = first_input(30, 20)
    return evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0, **options)


def test_sequences_of_further_batches_count_for_the_need_and_none_twice() -> None:
    others = [first_input(30, 20, seed) for seed in (1, 2, 2, 3)]  # the first one is the batch at hand
    assert small(more=others).need_record.num_rows == 90
    both = small(more=iter(others), validation=first_input(30, 20, seed=3))
    assert (both.need_record.num_rows, both.need) == (90, 19)
    with pytest.raises(Missing, match="or more=, batches that show it: need has 30 rows"):
        _ = small(more=others[:1]).need


def test_a_sequence_that_is_drawn_again_beside_a_new_one_is_left_out() -> None:
    at_hand, new = first_input(30, 20), first_input(30, 20, seed=2)
    mixed = torch.cat([new[0], at_hand[0][:, :10]], 1), torch.cat([new[1], at_hand[1][:10]])
    found = small(more=[mixed]).examples
    assert torch.equal(found.inputs, torch.cat([at_hand[0], new[0]], 1))
    assert torch.equal(found.targets, torch.cat([at_hand[1], new[1]]))


@pytest.mark.parametrize(("steps", "taken", "rows"), [(20, 17, 30 * 18), (15, 32, 30)])
def test_of_an_endless_stream_as_many_batches_are_taken_as_tell_something(steps: int, taken: int, rows: int) -> None:
    given: list[int] = []

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        for seed in count(2):
            given.append(seed)
            yield first_input(30, steps, seed)

    assert small(more=stream()).examples.inputs.size(1) == rows
    assert len(given) == taken


def test_further_batches_with_lengths_may_be_longer() -> None:
    (x, lengths), y = padded(20, 30, 1)
    others = [padded(24, 30, seed) for seed in (2, 3)]
    found = evidence(Padded(), (x, lengths), y, mse, lengths=lengths, time_dim=0, more=others).examples
    assert found.inputs.shape == (24, 90, 3)
    assert found.lengths is not None
    assert torch.equal(found.lengths, torch.cat([lengths, *(inputs[1] for inputs, _ in others)]))


def test_a_further_batch_that_is_not_finite_is_left_out() -> None:
    x, y = first_input(30, 20, seed=2)
    x[3, 5] = torch.nan
    assert small(more=[(x, y), first_input(30, 20, seed=3)]).need_record.num_rows == 60


def test_a_stream_may_draw_from_the_global_random_state() -> None:
    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            x = torch.randn(20, 30, 3)
            yield x, x[0, :, 0]

    given = small(more=stream())
    before = torch.get_rng_state()
    assert given.need_record.num_rows > 500
    assert torch.equal(torch.get_rng_state(), before)


def test_what_are_no_further_batches_is_said() -> None:
    with pytest.raises(InputError, match=r"more must be batches \(inputs, targets\), not int"):
        small(more=3)
    with pytest.raises(Missing, match=r"more must be batches \(inputs, targets\), not of Tensor"):
        _ = small(more=[torch.randn(20, 30, 3)]).need


def test_progress_is_the_share_of_the_chance_loss_that_is_gone() -> None:
    x, _ = first_input()
    model = LastStep(orthogonal(1.0))
    with torch.no_grad():
        y = model(x).squeeze(1)
        half = (y - y.mean()) * 2 + y.mean()  # the model tells half of each deviation: a quarter of the loss is left

    def of(targets: Tensor) -> Evidence:
        return evidence(model, x, targets, mse, time_dim=0, validation=(x, targets))

    assert of(y).progress == pytest.approx(1)
    assert of(half).progress == pytest.approx(0.75, abs=1e-4)
    assert of(y.mean() - (y - y.mean())).progress == pytest.approx(-3, abs=1e-3)
    with pytest.raises(Missing, match="validation="):
        _ = evidence(model, x, y, mse, time_dim=0).progress


def test_a_loss_of_all_that_the_model_returns_is_taken_as_it_is() -> None:
    rnn = nn.RNN(3, 1)
    x = torch.randn(9, 5, 3)

    def loss(found: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        outputs, _ = found
        return (outputs[-1, :, 0] - targets).square().mean()

    given = evidence(rnn, x, torch.zeros(5), loss, time_dim=0)
    assert given.batch_loss == pytest.approx(float(rnn(x)[0][-1].detach().square().mean()))


def test_has_tells_whether_it_can_be_had() -> None:
    x, y = first_input()
    given = evidence(LastStep(nn.RNN(3, 4)), x, y, mse, time_dim=0)
    assert given.has("gradient")
    assert not given.has("validation_loss")
    assert not given.has("rehearsal")
    assert (given.num_steps, given.num_sequences) == (40, 64)
