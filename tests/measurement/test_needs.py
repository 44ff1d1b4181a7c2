"""How far back data holds something about its target: data whose answer is known."""

from __future__ import annotations

import lzma
from functools import partial
from pathlib import Path

import pytest
import torch

from throughtime.errors import InputError, RecipeError
from throughtime.measurement import dependence
from throughtime.measurement.need_told import Told
from throughtime.measurement.needs import About, NeedRecord, need

SEEDS = range(5)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids(num_kinds, *shape, seed=0):
    return torch.randint(num_kinds, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("gain", "verdict"), [(0.05, "cannot tell"), (0.5, "found")])
def test_what_half_of_the_resamples_do_not_show_is_not_told(gain, verdict):
    """Rows of which a lag tells something on average, by half of its standard error or by five."""
    rows = random(1, 100).double()
    gains = gain + (rows - rows.mean()) / rows.std()
    told = Told((3,), torch.cat([torch.full_like(gains, 4.0), 4.0 - gains]), detectable=0.01)
    record = About(100, 20, "variance", older=False).judged(told, torch.Generator().manual_seed(0))
    assert record.verdict == verdict
    assert record.need == (3 if verdict == "found" else None)


def test_pictures_of_each_step_are_many_numbers():
    x = random(6, 400, 1, 3, 2)
    labels = x[2].sum((1, 2, 3)) > 0
    assert need(x, labels).need == 3
    assert need(x, labels) == need(x.flatten(2), labels)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_label_shown_in_the_first_step_needs_every_step(seed):
    x, labels = random(60, 400, 3, seed=seed), ids(3, 400, seed=seed + 100)
    x[0] += 3 * torch.nn.functional.one_hot(labels, 3)
    record = need(x, labels, seed=seed)
    assert (record.need, record.lower, record.upper) == (59, 59, 59)
    assert str(record).startswith("the data needs 59 steps")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lag", [0, 1, 12])
def test_a_token_said_again_after_a_fixed_lag(lag, seed):
    words = ids(10, 40, 100, seed=seed)
    assert need(words, words.roll(lag, 0), time_dim=0, seed=seed).need == lag
    assert need(words.t(), words.roll(lag, 0).t(), time_dim=1, seed=seed).need == lag


@pytest.mark.parametrize("time_dim", [0, 1])
def test_numbers_without_an_axis_of_features_are_one_feature(time_dim):
    x = random(30, 200)
    found = need(x.movedim(0, time_dim), x.roll(4, 0).movedim(0, time_dim), time_dim=time_dim)
    assert found.need == 4
    assert found == need(x.unsqueeze(-1), x.roll(4, 0), time_dim=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_autoregressive_series_needs_one_step(seed):
    noise = random(200, 20, 1, seed=seed)
    x = torch.empty_like(noise)
    x[0] = noise[0]
    for t in range(1, 200):
        x[t] = 0.95 * x[t - 1] + noise[t]
    assert need(x[:-1], x[1:], time_dim=0, max_lag=60, seed=seed).need == 0  # the newest input is lag 0


@pytest.mark.parametrize("steps", [0.4, 1.0])
def test_of_a_sine_its_last_two_values_say_all(steps):
    """Though the value of half a period ago says most by itself."""
    phases = 6.28 * torch.rand(24, generator=torch.Generator().manual_seed(0))
    wave = torch.sin(phases + steps * torch.arange(41.0)[:, None])
    record = need(wave[:-1], wave[1:], time_dim=0)
    assert record.need == 1
    assert record.explained[-1] > 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_pattern_that_comes_again_no_newer_values_say_what_that_of_a_period_ago_says(seed):
    wave = random(16, 60, seed=seed).repeat(4, 1)
    assert need(wave[:-1], wave[1:], time_dim=0, seed=seed).need == 15


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_drift_under_noise_does_not_need_the_longest_lag(seed):
    level = random(200, 20, 1, seed=seed).mul(0.3).cumsum(0)
    x = level + random(200, 20, 1, seed=seed + 50)
    record = need(x[:-1], x[1:], time_dim=0, max_lag=60, seed=seed)
    assert record.need is None or 1 <= record.need < 40


@pytest.mark.parametrize("seed", SEEDS)
def test_where_there_is_nothing_it_cannot_tell(seed):
    record = need(random(50, 300, 2, seed=seed), ids(2, 300, seed=seed + 9), seed=seed)
    assert (record.need, record.verdict) == (None, "cannot tell")


@pytest.mark.parametrize("seed", SEEDS)
def test_of_parity_no_single_lag_tells_anything(seed):
    bits = ids(2, 12, 1500, seed=seed)
    record = need(bits, bits.sum(0) % 2, seed=seed)
    assert record.verdict == "cannot tell"
    assert "by itself" in record.reason


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("weight", "expected"), [(0.5, 20), (0.03, 2)])
def test_a_lag_that_holds_less_than_one_per_cent_does_not_count(weight, expected, seed):
    x = random(60, 150, 1, seed=seed)
    y = x.roll(2, 0) + weight * x.roll(20, 0)
    assert need(x, y, time_dim=0, seed=seed).need == expected


def test_nonlinear_dependence_is_seen():
    x = random(40, 200, 1)
    assert need(x, x.roll(5, 0).square(), time_dim=0).need == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_lengths_count_from_the_ends(seed):
    generator = torch.Generator().manual_seed(seed)
    x, lengths = random(30, 300, 2, seed=seed), torch.randint(15, 31, (300,), generator=generator)
    labels = x[lengths - 8, torch.arange(300), 0]
    assert need(x, labels, lengths=lengths, seed=seed).need == 7


@pytest.mark.parametrize("information", ["variance", "entropy"])
@pytest.mark.parametrize("time_dim", [0, 1])
def test_of_targets_of_each_step_those_beyond_the_lengths_do_not_count(time_dim, information):
    """Padding that repeats itself at once would say that a step or two are all that is needed."""
    lengths = torch.randint(20, 61, (120,), generator=torch.Generator().manual_seed(0))
    words = ids(6, 60, 120)
    padded = torch.arange(60).unsqueeze(1) >= lengths
    x, y = words.masked_fill(padded, 6), words.roll(9, 0).masked_fill(padded, 6)
    x, y = (part.movedim(0, time_dim) for part in (x, y))
    record = need(x, y, time_dim=time_dim, lengths=lengths, information=information)
    assert (record.need, record.lags) == (9, (9,))
    assert record.num_rows < 120 * 60 - int(padded.sum())
    assert need(x, y, time_dim=time_dim, information=information).lags != (9,)
    with pytest.raises(InputError, match="lengths must be 120 numbers from 1 to 60"):
        need(x, y, time_dim=time_dim, lengths=lengths[:7], information=information)


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_that_are_ignored_leave_room_for_the_lags_before_them(seed):
    words = ids(8, 60, 80, seed=seed)
    y = torch.full_like(words, -100)
    y[50:] = words[:10]  # said again after fifty steps; before there is nothing to say
    record = need(words, y, time_dim=0, seed=seed)
    assert (record.need, record.max_lag, record.num_rows) == (50, 50, 800)
    assert need(words.t(), y.t(), time_dim=1, seed=seed).need == 50


def test_of_whole_sequences_targets_may_be_several_quantities():
    x = random(30, 200, 2)
    record = need(x, x[22], time_dim=0)
    assert (record.need, record.num_rows) == (7, 200)


def test_of_whole_sequences_those_without_a_target_do_not_count():
    words = ids(5, 30, 400)
    y = words[12].clone()
    y[100:] = -100
    record = need(words, y, time_dim=0)
    assert (record.need, record.num_rows) == (17, 100)
    with pytest.raises(InputError, match="need has 0 rows to learn from"):
        need(words, torch.full((400,), -100), time_dim=0)


def test_targets_that_are_ignored_everywhere_are_no_rows():
    words = ids(5, 30, 100)
    with pytest.raises(InputError, match="need has 0 rows to learn from"):
        need(words, torch.full_like(words, -100), time_dim=0)


def test_minus_a_hundred_is_a_number_like_others_where_targets_are_quantities():
    x = random(30, 100, 1)
    y = x.roll(4, 0)
    y[20:, :50] = -100
    assert need(x, y, time_dim=0).num_rows == need(x, x.roll(4, 0), time_dim=0).num_rows


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_that_are_common_at_one_lag_alone_have_codes_of_their_own(seed):
    words = ids(200, 40, 400, seed=seed)
    labels = ids(2, 400, seed=seed + 100)
    words[0] = 200 + labels  # two words of 202, seen nowhere else
    assert need(words, labels, time_dim=0, seed=seed).need == 39


def test_fewer_rows_are_drawn_where_that_is_asked():
    x = random(100, 60, 1)
    record = need(x, x.roll(3, 0), time_dim=0, num_rows=200)
    assert (record.need, record.num_rows) == (3, 200)


def test_the_same_seed_gives_the_same_record_and_it_comes_back(tmp_path):
    x, state = random(30, 100, 1), torch.get_rng_state()
    record = need(x, x.roll(4, 0), time_dim=0, seed=3)
    assert record == need(x, x.roll(4, 0), time_dim=0, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    record.save(tmp_path / "need.json")
    assert NeedRecord.load(tmp_path / "need.json") == record


def test_a_constant_target_is_said():
    assert "constant" in need(random(10, 80, 1), torch.zeros(80)).reason


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"time_dim": None}, InputError, "do not say which axis is time"),
        ({"time_dim": 2}, InputError, "time_dim must be 0 or 1"),
        ({"targets": torch.zeros(7)}, InputError, "neither one for each of 80 sequences"),
        ({"inputs": random(10, 80, 1) * torch.nan}, InputError, "NaN or infinity"),
        ({"inputs": random(10, 3, 1), "targets": torch.zeros(3)}, InputError, "need has 3 rows"),
        ({"max_lag": 0}, RecipeError, "max_lag must be at least 1"),
        ({"inputs": [1, 2]}, InputError, "need takes a tensor of inputs"),
    ],
)
def test_bad_input_gets_one_clear_line(change, error, message):
    choices = {"inputs": random(10, 80, 1), "targets": random(10, 80, 1), "time_dim": 0} | change
    with pytest.raises(error, match=message):
        need(choices.pop("inputs"), choices.pop("targets"), **choices)


def test_many_shifts_at_once_are_what_each_of_them_gives():
    generator = torch.Generator().manual_seed(0)
    bases = dependence._bases(torch.randn(5, 60, 3, generator=generator, dtype=torch.float64))
    rest = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    shifts = torch.randint(1, 60, (dependence._SHIFTS_AT_ONCE + 3,), generator=generator)
    each = torch.stack([dependence._explained(bases, rest.roll(int(shift), 0)) for shift in shifts])
    torch.testing.assert_close(dependence._explained_by_chance(bases, rest, shifts), each)


# --- entropy of ids ---

counted = partial(need, information="entropy")


def chain(table, order, seed, num_steps=400, batch=20):
    """Each id by the last few; the next one is asked for."""
    draw, size = torch.Generator().manual_seed(seed), table.size(1)
    x = ids(size, num_steps, batch, seed=seed + 1)
    for t in range(order, num_steps):
        context = sum(x[t - 1 - lag] * size**lag for lag in range(order))
        x[t] = torch.multinomial(table[context], 1, generator=draw)[:, 0]
    return x[order:-1], x[order + 1 :]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("order", "size"), [(1, 2), (1, 12), (2, 4), (3, 3), (4, 2)])
def test_a_markov_chain_needs_its_order(order, size, seed):
    """Each id is one of two, by the sum of the last few; the oldest of them tells as much as the newest."""
    following = torch.stack([torch.arange(size**order) // size**lag % size for lag in range(order)]).sum(0) % size
    table = 0.8 * torch.eye(size)[following] + 0.15 * torch.eye(size)[0] + 0.05 / size
    record = counted(*chain(table, order, seed), time_dim=0, max_lag=30, seed=seed)
    assert (record.need, record.lower, record.upper) == (order - 1,) * 3
    assert record.unit == "entropy"


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_that_stay_for_long_need_one_step(seed):
    stays = 0.1 * torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) + 2 * torch.eye(6)
    x, y = chain(stays / stays.sum(1, keepdim=True), 1, seed)
    assert counted(x, y, time_dim=0, max_lag=60, seed=seed).need == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [2, 4])
def test_of_a_few_bits_their_parity_is_seen_though_none_tells_anything_alone(count, seed):
    bits = ids(2, 60, 80, seed=seed)
    y = sum(bits.roll(lag, 0) for lag in range(count)) % 2
    assert counted(bits, y, time_dim=0, max_lag=20, seed=seed).need == count - 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 50, 30_000])
def test_any_number_of_ids_will_do(size, seed):
    words = ids(size, 60, 200, seed=seed)
    which = ids(2, 60, 200, seed=seed + 1)
    y = torch.where(which == 0, words.roll(3, 0), words.roll(17, 0))
    record = counted(words, y, time_dim=0, max_lag=30, seed=seed)
    assert (record.need, record.lower, record.upper, record.lags) == (17, 17, 17, (3, 17))


def test_where_the_rows_do_not_suffice_it_says_how_many_might():
    bits = ids(2, 30, 60)
    y = torch.where(ids(10, 60, seed=1) < 6, bits[10], 1 - bits[10])  # right six times in ten
    few = counted(bits, y, time_dim=0)
    assert (few.need, few.unit) == (None, "entropy")
    assert few.rows_needed > 500
    assert f"takes about {few.rows_needed} rows in place of 60" in few.reason
    bits = ids(2, 30, few.rows_needed)
    y = torch.where(ids(10, few.rows_needed, seed=1) < 6, bits[10], 1 - bits[10])
    enough = counted(bits, y, time_dim=0)
    assert (enough.need, enough.verdict) == (19, "found")


@pytest.mark.parametrize("seed", SEEDS)
def test_of_votes_for_the_same_so_many_are_needed_as_tell_all_but_a_hundredth(seed):
    """Four ids over and over, one in twenty any: one repeat tells 0.89, two 0.96, three 0.995 of what many do."""
    pattern = ids(4, 4, 16, seed=seed).repeat(50, 1)
    x = torch.where(ids(20, 200, 16, seed=seed + 1) == 0, ids(4, 200, 16, seed=seed + 2), pattern)
    record = counted(x[:-1], x[1:], time_dim=0, seed=seed)
    assert (record.need, record.lower, record.upper) == (11, 11, 11)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_drift_of_ids_does_not_need_the_longest_lag(seed):
    """Of a series that keeps 0.95 of itself, the newest of eight ids tells nearly all."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(300, 40, generator=draw)
    for step in range(1, len(x)):
        x[step] = 0.95 * x[step - 1] + (1 - 0.95**2) ** 0.5 * x[step]
    coded = torch.bucketize(x, torch.special.ndtri(torch.arange(1, 8) / 8))
    record = counted(coded[:-1], coded[1:], time_dim=0, max_lag=60, seed=seed)
    assert record.need is not None
    assert record.upper <= 4


@pytest.mark.parametrize("seed", SEEDS)
def test_the_share_that_is_told_is_that_of_the_entropy(seed):
    words = ids(4, 40, 200, seed=seed)
    wrong = ids(2, 40, 200, seed=seed + 1).bool()
    y = torch.where(wrong, ids(4, 40, 200, seed=seed + 2), words.roll(5, 0))
    record = counted(words, y, time_dim=0, seed=seed)
    shares = torch.tensor([5 / 8, 1 / 8, 1 / 8, 1 / 8])
    expected = 1 - float(torch.special.entr(shares).sum() / torch.tensor(4.0).log())
    assert record.need == 5
    assert record.explained[-1] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("information", ["entropy", "variance"])
def test_of_few_rows_it_is_at_least_what_was_seen(seed, information):
    """The id of five steps ago comes again three times in four; where it always does, hardly anything is left."""
    words = ids(4, 40, 200, seed=seed)
    often = torch.where(ids(4, 40, 200, seed=seed + 1) == 0, ids(4, 40, 200, seed=seed + 2), words.roll(5, 0))
    few = need(words, often, time_dim=0, num_rows=300, information=information, seed=seed)
    assert (few.need, few.need_censored) == (5, True)
    assert "the data needs at least 5 steps, between 5 and 5" in few.reason
    assert few.rows_needed is not None
    assert few.rows_needed > 300
    for many, targets in ((None, often), (2000, words.roll(5, 0))):
        record = need(words, targets, time_dim=0, num_rows=many, information=information, seed=seed)
        assert (record.need, record.need_censored, record.rows_needed) == (5, False, None)


def test_older_inputs_that_were_not_looked_at_may_be_needed():
    words = ids(4, 40, 200, seed=0)
    y = torch.where(ids(2, 40, 200, seed=1).bool(), words.roll(9, 0), words.roll(5, 0))
    record = counted(words, y, time_dim=0, max_lag=5)
    assert (record.need, record.need_censored) == (5, True)
    assert "at least 5 steps (the longest lag that was looked at)" in record.reason
    whole = counted(words, words[0], time_dim=0)
    assert (whole.need, whole.need_censored) == (39, False)


NOVELS = Path(__file__).parents[2] / "../shared/data/gutenberg-novels/valid.tok.xz"


@pytest.mark.skipif(not NOVELS.exists(), reason="there is no text here")
def test_the_next_word_needs_the_last_few():
    with lzma.open(NOVELS, "rt", encoding="utf-8") as file:
        words = file.read().split()[:20_000]
    known: dict[str, int] = {}
    x = torch.tensor([known.setdefault(word, len(known)) for word in words]).unsqueeze(1)
    record = counted(x[:-1], x[1:], time_dim=0, max_lag=40)
    assert record.lags[:3] == (0, 1, 2)
    assert record.need_censored


def test_entropy_is_the_rule_where_ids_tell_classes_and_variance_where_numbers_are_among_them():
    x = ids(4, 12, 200, seed=0)
    assert need(x, x[5], time_dim=0).unit == "entropy"
    assert need(x, x[5].float(), time_dim=0).unit == "variance"
    assert need(x.float().unsqueeze(2), x[5], time_dim=0).unit == "variance"


def test_numbers_have_no_entropy_to_count():
    with pytest.raises(InputError, match="and these are numbers"):
        counted(torch.randn(5, 60, 1), ids(2, 60), time_dim=0)
    with pytest.raises(RecipeError, match="information"):
        need(ids(2, 5, 60), ids(2, 60), information="bits")


def logged_episodes(*, shuffled: bool, num_steps: int = 20, batch: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """A sign in the first step tells which action is rewarded; actions were drawn at random."""
    generator = torch.Generator().manual_seed(0)
    signs, actions = (torch.randint(3, (batch,), generator=generator) for _ in range(2))
    x = 0.1 * torch.randn(num_steps, batch, 3, generator=generator)
    x[0] = torch.nn.functional.one_hot(signs, 3).float()
    rewards = (actions == signs).float()
    if shuffled:
        rewards = rewards[torch.randperm(batch, generator=generator)]
    return x, torch.stack([actions.float(), rewards], 1)


def test_what_goes_together_is_told_though_nothing_alone_is():
    x, y = logged_episodes(shuffled=False)
    record = need(x, y, time_dim=0)
    assert (record.need, record.lags, record.num_rows) == (19, (19,), 600)
    for alone in y.unbind(1):
        assert need(x, alone, time_dim=0).need is None


def test_what_does_not_go_together_is_not_told():
    record = need(*logged_episodes(shuffled=True), time_dim=0)
    assert record.verdict == "cannot tell"
