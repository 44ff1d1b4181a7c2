import pytest
import torch

from throughtime.scan.chunks import CHUNK_STEPS, cut_into_chunks

CPU = torch.device("cpu")


def random_masks(num_steps, batch):
    return torch.rand(num_steps, batch) < 0.1, torch.randint(0, num_steps + 1, (batch,))


@pytest.mark.parametrize("num_steps", [1, 2, 63, 64, 65, 127, 128, 130, 1000])
def test_chunks_are_few_and_of_equal_size(num_steps):
    count, steps = cut_into_chunks(num_steps, 2, CPU, None, None).shape
    assert steps <= CHUNK_STEPS
    assert count == -(-num_steps // CHUNK_STEPS)
    assert 0 <= count * steps - num_steps < count


def test_without_cuts_there_are_no_masks():
    chunks = cut_into_chunks(128, 2, CPU, None, None)
    assert chunks.valid is None
    assert chunks.carried is None


@pytest.mark.parametrize("num_steps", [5, 130])
def test_log_decays_equal_the_plain_sums(num_steps):
    reset, lengths = random_masks(num_steps, 3)
    chunks = cut_into_chunks(num_steps, 3, CPU, reset, lengths)
    count, steps = chunks.shape
    log_decay = -torch.rand(count, 3, 2, steps, dtype=torch.float64)
    between, since = chunks.log_decay_between(log_decay), chunks.log_decay_since(log_decay)
    for chunk, row, t in torch.cartesian_prod(torch.arange(count), torch.arange(3), torch.arange(steps)).tolist():
        cuts = [s for s in range(t + 1) if (now := chunk * steps + s) < lengths[row] and reset[now, row]]
        first = max(cuts, default=0)
        assert chunks.carried[chunk, row, 0, t] == (not cuts)
        own = log_decay[chunk, row, 1]
        assert torch.isclose(since[chunk, row, 1, t], own[first : t + 1].sum())
        expected = [own[s + 1 : t + 1].sum().item() if first <= s <= t else -torch.inf for s in range(steps)]
        torch.testing.assert_close(between[chunk, row, 1, t], torch.tensor(expected, dtype=torch.float64))


def test_steps_far_apart_cost_no_digits():
    """After a sum of -3000, a difference of running sums in float32 would have an error of about 1e-4."""
    log_decay = torch.full((1, 1, 1, 64), -0.1)
    log_decay[..., :60] = -50.0
    chunks = cut_into_chunks(64, 1, CPU, None, None)
    exact = chunks.log_decay_between(log_decay.double())
    found = chunks.log_decay_between(log_decay)
    seen = exact.isfinite()
    assert ((found[seen] - exact[seen]).abs() <= 1e-6 * exact[seen].abs()).all()


def test_padding_hides_what_lies_beyond_a_length():
    x = torch.ones(3, 2, 4)
    x[2, 0] = torch.nan
    chunks = cut_into_chunks(3, 2, CPU, None, torch.tensor([2, 3]))
    padded = chunks.pad(x)
    assert padded.sum() == 5 * 4
    assert chunks.fill(x[..., :1], -1.0).flatten().tolist() == [1, 1, 1, 1, -1, 1]
    assert chunks.trim(x).nansum() == 5 * 4
    assert chunks.trim(x).isfinite().all()


def test_join_undoes_split():
    chunks = cut_into_chunks(130, 3, CPU, None, None)
    part = torch.randn(132, 3, 2, 5)
    assert chunks.split(part).shape == (3, 3, 2, 44, 5)
    assert torch.equal(chunks.join(chunks.split(part)), part)


def test_factors_come_apart_at_resets():
    reset = torch.tensor([[False], [True], [False]])
    past = torch.tensor([0.5, 0.25, 0.125]).view(1, 1, 1, 3)
    carried, renewed = cut_into_chunks(3, 1, CPU, reset, None).apart(past)
    assert carried.flatten().tolist() == [0.5, 0, 0]
    assert renewed.flatten().tolist() == [0, 0.25, 0.125]
    assert cut_into_chunks(3, 1, CPU, None, None).apart(past)[1] is None
