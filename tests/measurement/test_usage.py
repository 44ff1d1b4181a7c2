"""How far back a model uses its inputs, on models whose use is known, and the model left as it was found."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from measurement.running_out import ways_to_run_out
from throughtime.errors import InputError, RecipeError
from throughtime.measurement.gradient import measure
from throughtime.measurement.usage import UseRecord, use


class Reads(nn.Module):
    """Says at each step what it saw `lag` steps before, time first."""

    def __init__(self, lag):
        super().__init__()
        self.lag = lag

    def forward(self, x):
        return torch.cat([torch.zeros_like(x[: self.lag]), x[: x.size(0) - self.lag]])


class Mixes(nn.Module):
    """Says a sum of what it saw now and, with a small weight, of what it saw `lag` steps before."""

    def __init__(self, lag, weight):
        super().__init__()
        self.lag, self.weight = lag, weight

    def forward(self, x):
        return x + self.weight * torch.roll(x, self.lag, dims=0)


def squares(outputs, targets):
    return (outputs - targets).square().mean(-1) + 0.1


def data(num_steps=40, batch=32):
    return torch.randn(num_steps, batch, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("lag", [0, 1, 7, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_reads_one_lag_uses_just_that(lag, seed):
    x = data()
    record = use(Reads(lag), x, Reads(lag)(x), squares, time_dim=0, lags=range(40), seed=seed)
    assert (record.use, record.verdict) == (lag, "found")
    assert record.baseline == pytest.approx(0.1)
    assert str(record).startswith(f"the model uses the last {lag} steps")
    for tried, worse in zip(record.lags, record.worse, strict=True):
        assert (worse > 1) == (tried < lag)


@pytest.mark.parametrize(("weight", "expected"), [(0.3, 9), (0.005, 0)])
def test_what_is_worth_less_than_the_threshold_does_not_count(weight, expected):
    x = data()
    model = Mixes(9, weight)
    assert use(model, x, model(x), squares, time_dim=0, lags=range(40)).use == expected


def test_batch_first_and_targets_of_classes():
    class LastButFour(nn.Module):
        def forward(self, ids):
            return 20.0 * nn.functional.one_hot(ids[:, -5], 3)

    ids = torch.randint(3, (64, 30), generator=torch.Generator().manual_seed(0))
    loss = nn.CrossEntropyLoss(reduction="none")
    record = use(LastButFour(), ids, ids[:, -5], lambda o, t: loss(o, t) + 0.01, time_dim=1, lags=range(30))
    assert record.use == 4


def test_a_model_that_ignores_its_inputs_uses_nothing():
    class Deaf(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    record = use(Deaf(), data(), data(), squares, time_dim=0)
    assert (record.use, record.verdict) == (0, "nothing")


def test_a_loss_of_one_number_is_asked_for_at_each_position():
    x, criterion = data(), nn.MSELoss()
    each = use(Reads(7), x, Reads(7)(x), squares, time_dim=0, lags=range(40))
    mean = use(Reads(7), x, Reads(7)(x), lambda o, t: criterion(o, t) + 0.1, time_dim=0, lags=range(40))
    assert mean.worse == pytest.approx(each.worse)
    assert mean.use == 7

    class Last(nn.Module):
        def forward(self, x):
            return x[-4] * 10

    labels = data()[-4].argmax(-1)
    whole = use(Last(), data(), labels, lambda o, t: nn.functional.cross_entropy(o, t) + 0.1, time_dim=0, lags=range(9))
    assert whole.use == 3


def test_a_network_trained_to_use_twelve_steps_uses_twelve():
    class Filter(nn.Module):  # a linear memory of 16 steps
        def __init__(self):
            super().__init__()
            self.taps = nn.Conv1d(1, 1, 16)

        def forward(self, x):
            return self.taps(nn.functional.pad(x.permute(1, 2, 0), (15, 0))).permute(2, 0, 1)

    torch.manual_seed(0)
    model, x = Filter(), torch.randn(40, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        (model(x) - x.roll(12, 0))[16:].square().mean().backward()
        optimizer.step()
    record = use(model, x, x.roll(12, 0), squares, lags=range(16), time_dim=0)
    assert record.use == 12
    assert record.interval[11][0] > 1


def test_a_recurrent_layer_and_its_interval():
    torch.manual_seed(0)
    model = nn.GRU(2, 8)
    x = data()
    with torch.no_grad():
        targets = model(x)[0]
    record = use(model, x, targets, squares)
    assert 0 < record.use < 30
    for worse, (low, high) in zip(record.worse, record.interval, strict=True):
        assert low <= worse <= high


def test_what_cannot_be_told_is_said(tmp_path):
    x = data(batch=1)
    record = use(Reads(3), x, x, squares, time_dim=0)
    assert (record.use, record.verdict) == (None, "cannot tell")
    assert "single sequence" in str(record)
    record.save(tmp_path / "use.json")
    assert UseRecord.load(tmp_path / "use.json") == record
    x = data()
    assert "longest that was tried" in use(Reads(20), x, Reads(20)(x), squares, time_dim=0, lags=[1, 5]).reason


class Counts(nn.Module):
    """Keeps a count in a buffer, and fails on request."""

    def __init__(self, fails):
        super().__init__()
        self.gru, self.norm, self.fails = nn.GRU(2, 4), nn.BatchNorm1d(4), fails
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        y = self.norm(self.gru(x)[0].transpose(1, 2)).transpose(1, 2) if x.size(1) else x
        if self.fails:
            raise KeyError("mine")
        return nn.functional.dropout(y, 0.5, self.training)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(fails):
    torch.manual_seed(0)
    model, x = Counts(fails), data()[:, :4].transpose(0, 1).repeat(1, 1, 1).transpose(0, 1)
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    if fails:
        with pytest.raises(InputError, match="KeyError: 'mine'"):
            use(model, x, None, lambda outputs: outputs.square().mean(-1), time_dim=0)
    else:
        use(model, x, None, lambda outputs: outputs.square().mean(-1), time_dim=0)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": lambda o, t: (o - t).square().flatten()}, InputError, "use needs one of each sequence"),
        (
            {"loss": lambda o, t: o.mean(), "targets": torch.zeros(7)},
            InputError,
            "cannot be cut as the outputs",
        ),
        ({"loss": lambda o, t: (o - t).square().mean(-1).flatten()}, InputError, "with the axes of the outputs"),
        ({"loss": lambda o, t: o / 0}, InputError, "the loss is not finite"),
        ({"loss": lambda o, t: 3}, InputError, "the loss gives int"),
        ({"lags": [50]}, RecipeError, "lags must be numbers from 0 to 39"),
        ({"threshold": 0}, RecipeError, "threshold must be above 0"),
        ({"time_dim": None}, InputError, "time_dim cannot be guessed"),
        ({"inputs": torch.zeros(1, 3, 2)}, InputError, "use needs at least 2"),
        ({"inputs": torch.zeros(9, 0, 2)}, InputError, "hold no sequence along axis 1"),
        ({"loss": None}, InputError, "use needs a loss"),
    ],
)
def test_bad_input_gets_one_clear_line(change, error, message):
    choices = {"inputs": data(), "targets": data(), "loss": squares, "time_dim": 0} | change
    with pytest.raises(error, match=message) as caught:
        use(Reads(2), choices.pop("inputs"), choices.pop("targets"), choices.pop("loss"), **choices)
    assert "\n" not in str(caught.value)


def test_a_loss_of_positions_is_asked_for_those_that_count_alone():
    x, sizes = data(), []

    def counted(outputs, targets):
        sizes.append(outputs.size(0))
        return squares(outputs, targets)

    alone = use(Reads(7), x, Reads(7)(x), counted, time_dim=0, lags=range(40))
    assert sizes[0] == 40
    assert set(sizes[1:]) == {1}

    def together(outputs, targets):  # of a step by what all steps of its sequence are worth
        found = squares(outputs, targets)
        return found + 0 * outputs.sum() if len(outputs) > 1 else found + 1

    whole = use(Reads(7), x, Reads(7)(x), together, time_dim=0, lags=range(40))
    assert whole.worse == pytest.approx(alone.worse)
    assert whole.interval == alone.interval


def test_a_loss_over_all_steps_is_not_cut():
    x = data()

    def centred(outputs, targets):
        found = squares(outputs, targets)
        return found / found.mean()

    record = use(Mixes(9, 0.3), x, x, centred, time_dim=0, lags=range(40))
    assert record.baseline != pytest.approx(1.0, abs=1e-3)
    assert record.use is not None


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_loss_that_counts_at_few_steps_is_asked_for_there(reduction):
    class LastButFour(nn.Module):
        def forward(self, ids):
            return 3.0 * nn.functional.one_hot(ids[:, (torch.arange(30) - 4).clamp(min=0)], 3)

    ids = torch.randint(3, (64, 30), generator=torch.Generator().manual_seed(0))
    targets = torch.full_like(ids, -100)
    targets[:, 11] = ids[:, 7]
    criterion = nn.CrossEntropyLoss(reduction=reduction)

    def loss(outputs, targets):
        found = criterion(outputs.flatten(0, 1), targets.flatten())
        return found.view_as(targets) if reduction == "none" else found

    record = use(LastButFour(), ids, targets, loss, time_dim=1, lags=range(12))
    assert (record.use, record.verdict) == (4, "found")


def test_what_is_got_right_counts_too():
    class Signs(nn.Module):  # of what it saw three steps ago
        def forward(self, x):
            return torch.roll(x, 3, 0).sign()

    def wrong(outputs, targets):
        return (outputs[..., 0] != targets).float()

    x = data(batch=200)
    noise = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.1
    targets = torch.where(noise, -1, 1) * Signs()(x)[..., 0]
    record = use(Signs(), x, targets, wrong, time_dim=0, lags=range(9))
    assert record.use == 3
    assert 0.1 < record.baseline < 0.3  # a tenth, but for those that are right whatever the inputs are


# --- where memory ends ---


class Hungry(Reads):
    """Runs out of memory with more than so many sequences."""

    def __init__(self, most, run_out):
        super().__init__(3)
        self.most, self.run_out = most, run_out

    def forward(self, x):
        if x.size(1) > self.most:
            self.run_out()
        return super().forward(x)


@ways_to_run_out
def test_a_smaller_batch_where_memory_runs_out(run_out):
    x = data(batch=32)
    record = use(Hungry(10, run_out), x, Reads(3)(x), squares, time_dim=0, lags=range(9))
    assert (record.use, record.num_sequences) == (3, 8)
    assert record.notes == ("out of memory with 16 sequences: 8 were measured",)
    assert "out of memory" in str(record)
    with pytest.raises(InputError, match="out of memory with 2 sequences of 40 steps: hand over shorter or fewer"):
        use(Hungry(1, run_out), x, Reads(3)(x), squares, time_dim=0)


def test_memory_that_a_loss_runs_out_of_is_no_loss_without_a_gradient():
    def hungry(outputs, targets):
        if outputs.requires_grad and outputs.size(1) > 20:
            raise MemoryError
        return (outputs - targets).square().mean() + 0.1

    x = data(batch=32)
    record = use(Reads(3), x, Reads(3)(x), hungry, time_dim=0, lags=range(9))
    assert (record.use, record.num_sequences) == (3, 16)


# --- losses of sequences, from outputs with steps ---


def over_time(kind):
    criterion = nn.CrossEntropyLoss(reduction="none")

    def loss(outputs, targets):
        each = criterion(outputs.flatten(0, 1), targets.flatten()).view_as(targets) + 0.01 * (targets >= 0)
        total = each.sum(1)
        return {"sum": total, "mean": total / each.size(1), "counted": total / (targets >= 0).sum(1)}[kind]

    return loss


class SaysAgain(nn.Module):
    """At each step the id of four steps before, batch first."""

    def forward(self, ids):
        return 3.0 * nn.functional.one_hot(ids[:, (torch.arange(ids.size(1)) - 4).clamp(min=0)], 3)


@pytest.mark.parametrize("kind", ["sum", "mean", "counted"])
@pytest.mark.parametrize("output_dims", [None, (1, 0)])
def test_a_loss_that_is_summed_over_time_is_asked_for_at_one_position(kind, output_dims):
    """As `measure` takes it; what each step costs relative to its own loss is what a loss of each step gives."""
    ids = torch.randint(3, (64, 30), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(4, 1)
    targets[:, ::2] = -100
    criterion = nn.CrossEntropyLoss(reduction="none")

    def of_steps(outputs, targets):
        return criterion(outputs.flatten(0, 1), targets.flatten()).view_as(targets) + 0.01 * (targets >= 0)

    choices = {"time_dim": 1, "lags": range(12), "output_dims": output_dims}
    each = use(SaysAgain(), ids, targets, of_steps, **choices)
    together = use(SaysAgain(), ids, targets, over_time(kind), **choices)
    assert (together.use, together.verdict, together.notes) == (4, "found", ())
    assert together.worse == pytest.approx(each.worse)
    assert together.baseline == pytest.approx(each.baseline)


def test_measure_and_use_take_it_alike():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(2, 2, nonlinearity="relu")

        def forward(self, x):
            return self.rnn(x)[0]

    torch.manual_seed(0)
    model, x = Layer(), data()
    targets = torch.randn(40, 32, 2)
    per_sequence = lambda o, t: (o - t).square().mean((0, 2))  # noqa: E731
    assert use(model, x, targets, per_sequence).use == use(model, x, targets, lambda o, t: (o - t).square().mean(2)).use
    measured = measure(model, x, targets, per_sequence)
    assert measured.positions == measure(model, x, targets, nn.MSELoss()).positions != ()


@pytest.mark.parametrize("from_end", [1, 3])
def test_a_loss_of_one_step_of_each_sequence_counts_from_that_step(from_end):
    ids = torch.randint(3, (64, 30), generator=torch.Generator().manual_seed(0))

    def of_one(outputs, labels):
        return nn.functional.cross_entropy(outputs[:, -from_end], labels, reduction="none") + 0.01

    labels = ids[:, -from_end - 4]
    record = use(SaysAgain(), ids, labels, of_one, time_dim=1, lags=range(12))
    assert (record.use, record.notes) == (4, ())


def test_steps_that_a_loss_takes_together_are_said_to_be():
    ids = torch.randint(3, (64, 30), generator=torch.Generator().manual_seed(0))

    def pooled(outputs, labels):
        return nn.functional.cross_entropy(outputs.mean(1), labels, reduction="none")

    record = use(SaysAgain(), ids, ids.mode(1).values, pooled, time_dim=1, lags=range(30))
    assert record.use > 10
    assert record.notes == (
        "the loss takes the steps of a sequence together and is no mean of theirs: lags count from the last one",
    )
