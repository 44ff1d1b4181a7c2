"""Training loops watched and not watched, bit for bit; and what was seen against numbers computed by hand."""

from __future__ import annotations

import copy
import io
import math
import random
import typing

import numpy as np
import pytest
import torch
from torch import nn

from throughtime.errors import InputError, RecipeError
from throughtime.measurement import measure
from throughtime.measurement.watch_record import WatchRecord
from throughtime.measurement.watching import watch

T, B, H = 12, 6, 8
OFTEN = {"every": 2, "max_overhead": None}
"""Every step sampled, and as many probes as fit."""


class Tagger(nn.Module):
    """A recurrent layer and a read-out; with dropout it draws random numbers of every kind: one too many shows."""

    def __init__(self, recurrent=None, dropout=0.1):
        super().__init__()
        self.recurrent = recurrent or nn.LSTM(3, H)
        self.dropout = nn.Dropout(dropout)
        self.read = nn.Linear(H, 2)

    def forward(self, x, state=None):
        y, _ = self.recurrent(x, state)
        noise = 0.01 * (random.random() + np.random.rand()) if self.dropout.p else 0.0
        return self.read(self.dropout(y)) + noise


def seeded():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def criterion(outputs, targets):
    return (outputs - targets).square().mean()


def batches(num, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num):
        yield torch.randn(T, B, 3, generator=generator), torch.randn(T, B, 2, generator=generator)


def plain(model, optimizer, watched=None, *, num=6, clip=None):
    for x, targets in batches(num):
        optimizer.zero_grad()
        value = criterion(model(x), targets)
        if watched is not None:
            watched.loss(value, targets)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def accumulating(model, optimizer, watched=None):
    for step, (x, targets) in enumerate(batches(8)):
        criterion(model(x), targets).div(2).backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)


def scaled(model, optimizer, watched=None):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for x, targets in batches(6):
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), targets)).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


def called_twice(model, optimizer, watched=None):
    for x, targets in batches(6):
        optimizer.zero_grad()
        criterion(model(x) + model(x.flip(0)), targets).backward()
        optimizer.step()


def by_closure(model, optimizer, watched=None):
    for x, targets in batches(4):

        def closure(x=x, targets=targets):
            optimizer.zero_grad()
            value = criterion(model(x), targets)
            value.backward()
            return value

        optimizer.step(closure)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)


def everything_random():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize(
    ("loop", "make"),
    [(plain, adam), (accumulating, adam), (scaled, adam), (called_twice, adam), (by_closure, lbfgs)],
    ids=lambda value: value.__name__,
)
@pytest.mark.parametrize("choices", [OFTEN, {"every": 3, "max_overhead": 1e9}, {}], ids=["often", "budget", "default"])
def test_training_is_bit_identical(loop, make, choices):
    ends = []
    for is_watched in (False, True):
        seeded()
        model = Tagger()
        optimizer = make(model.parameters())
        if is_watched:
            with watch(model, optimizer, **choices) as watched:
                loop(model, optimizer, watched)
            assert watched.record.num_steps >= 3
            assert watched.record.samples
            assert not [note for note in watched.record.notes if "since" in note or "not measured" in note]
            if choices:
                assert watched.records
        else:
            loop(model, optimizer)
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        gradients = [parameter.grad for parameter in model.parameters()]
        ends.append((weights, gradients, everything_random()))
    assert all(torch.equal(a, b) for a, b in zip(ends[0][0], ends[1][0], strict=True))
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))
    assert ends[0][2] == ends[1][2]


def norm_of(tensors):
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def test_norms_before_and_after_clipping_against_those_computed_by_hand():
    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    by_hand = []
    with watch(model, optimizer, **OFTEN) as watched:
        for x, targets in batches(3):
            optimizer.zero_grad()
            value = watched.loss(criterion(model(x), targets))
            value.backward()
            before = norm_of(p.grad for p in model.parameters())
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            weights = [p.detach().clone() for p in model.parameters()]
            after = norm_of(p.grad for p in model.parameters())
            optimizer.step()
            by_hand.append((value.item(), before, after, 0.5 * after / norm_of(weights)))
    record = watched.record
    assert [sample["step"] for sample in record.samples] == [1, 2, 3]
    for sample, (value, before, after, ratio) in zip(record.samples, by_hand, strict=True):
        assert before > 0.05
        assert sample["loss"] == value
        assert sample["gradient_norm"] == pytest.approx(before, rel=1e-5)
        assert sample["clipped_norm"] == pytest.approx(after, rel=1e-5)
        assert sample["update_ratio"] == pytest.approx(ratio, rel=1e-3)
        assert sample["learning_rate"] == 0.5
    assert record.losses == tuple(value for value, *_ in by_hand)
    assert record.backward_passes_per_step == 1
    assert record.accumulating == 0
    assert record.non_finite is None
    assert record.never_updated == record.without_gradient == record.not_in_optimizer == record.frozen == ()


def test_accumulation_counts_passes_and_takes_the_last():
    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    optimizer = adam(model.parameters())
    norms = []
    with watch(model, optimizer, **OFTEN) as watched:
        for step, (x, targets) in enumerate(batches(9)):
            criterion(model(x), targets).backward()
            if step % 3 == 2:
                norms.append(norm_of(p.grad for p in model.parameters()))
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    record = watched.record
    assert record.num_steps == 3
    assert record.backward_passes_per_step == 3
    assert record.accumulating == 0
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(norms, rel=1e-5)


def test_gradients_never_reset_are_told():
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, **OFTEN) as watched:
        for x, targets in batches(4):
            criterion(model(x), targets).backward()
            optimizer.step()
    assert watched.record.accumulating == 1
    assert watched.record.backward_passes_per_step == 1
    assert "left from the step before" in str(watched.record)


def test_gradients_reset_between_the_forward_and_the_backward_pass_are_not():
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, **OFTEN) as watched:
        for x, targets in batches(4):
            value = criterion(model(x), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert watched.record.accumulating == 0


@pytest.mark.parametrize("fused", [False, True])
def test_the_scale_is_taken_out(fused):
    found = []
    for scale in (None, 2.0**10):
        torch.manual_seed(1)
        model = Tagger(dropout=0.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        with watch(model, optimizer, scaler=scaler, **OFTEN) as watched:
            for x, targets in batches(3):
                optimizer.zero_grad()
                scaler.scale(criterion(model(x), targets)).backward()
                scaler.step(optimizer)
                scaler.update()
        found.append(watched.record)
    for without, with_scale in zip(found[0].samples, found[1].samples, strict=True):
        assert with_scale["gradient_norm"] == pytest.approx(without["gradient_norm"], rel=1e-4)
        assert with_scale["clipped_norm"] == pytest.approx(without["clipped_norm"], rel=1e-4)
    assert not found[1].notes


def test_a_scale_that_overflows_is_no_finding_and_one_not_given_is_noted():
    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    optimizer = adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    watches = [watch(model, optimizer, scaler=given, every=99, max_overhead=None).start() for given in (scaler, None)]
    for x, targets in batches(4):
        optimizer.zero_grad()
        scaler.scale(100 * criterion(model(x), targets)).backward()
        scaler.step(optimizer)
        scaler.update()
    for each in watches:
        each.stop()
    assert watches[0].record.num_steps == 3
    assert watches[0].record.non_finite is None
    assert watches[0].record.notes == ()
    assert any("scaler=" in note for note in watches[1].record.notes)


def test_two_optimizers_make_one_step_and_each_parameter_is_seen_at_its_own():
    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    first = torch.optim.SGD(model.recurrent.parameters(), lr=0.1)
    second = adam(model.read.parameters())
    with watch(model, [first, second], **OFTEN) as watched:
        for x, targets in batches(4):
            first.zero_grad()
            second.zero_grad()
            criterion(model(x), targets).backward()
            norm = norm_of(p.grad for p in model.parameters())
            first.step()
            second.step()
    record = watched.record
    assert record.num_steps == 4
    assert record.samples[-1]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert record.samples[-1]["clipped_norm"] == pytest.approx(norm, rel=1e-5)
    assert record.never_updated == record.not_in_optimizer == ()


def test_optimizers_with_passes_between_them_make_steps_of_their_own():
    model = Tagger()
    first, second = adam(model.recurrent.parameters()), adam(model.read.parameters())
    with watch(model, [first, second], **OFTEN) as watched:
        for x, targets in batches(3):
            for optimizer in (first, second):
                optimizer.zero_grad()  # what the other one's pass left is reset before its own
                criterion(model(x), targets).backward()
                optimizer.step()
    assert watched.record.num_steps == 6
    assert watched.record.accumulating == 0


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_measured_by_what_is_inside(in_place):
    ends = []
    for is_watched in (False, True):
        torch._dynamo.reset()
        seeded()
        model = Tagger()
        optimizer = adam(model.parameters())
        if in_place:
            model.compile(backend="eager")
        called = model if in_place else torch.compile(model, backend="eager")
        if is_watched:
            with watch(called, optimizer, **OFTEN) as watched:
                plain(called, optimizer, watched)
            assert list(watched.records) == [2, 4, 6]
            assert watched.records[2].top == "recurrent"
            assert watched.record.notes == ()
            assert watched.record.backward_passes_per_step == 1
        else:
            plain(called, optimizer)
        ends.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_closure_is_seen_after_its_last_pass():
    model = Tagger(dropout=0.0)
    optimizer = lbfgs(model.parameters())
    with watch(model, optimizer, **OFTEN) as watched:
        by_closure(model, optimizer)
    record = watched.record
    assert record.num_steps == 4
    assert record.backward_passes_per_step > 1
    assert record.samples[-1]["gradient_norm"] == pytest.approx(norm_of(p.grad for p in model.parameters()), rel=1e-5)
    assert all(sample["update_ratio"] > 0 for sample in record.samples)
    assert record.accumulating == 0


def test_the_probe_is_that_of_the_last_batch():
    from throughtime.measurement.gradient import measure

    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    optimizer = adam(model.parameters())
    with watch(model, optimizer, every=3, max_overhead=None, loss=criterion) as watched:
        plain(model, optimizer, watched, num=3)
    *_, (x, targets) = batches(3)
    assert watched.records[3] == measure(model, x, targets, criterion, num_sequences=4)


class Turning(Tagger):
    """Takes (B, T, I), though its layer, which says so, takes (T, B, I); says how often any copy of it was called."""

    calls: typing.ClassVar[list[int]] = []

    def forward(self, x):
        self.calls.append(x.size(0))
        return super().forward(x.transpose(0, 1)).transpose(0, 1)


def test_a_model_that_turns_its_inputs_round_is_tried_once_and_probed_along_time():
    from throughtime.measurement.gradient import measure

    torch.manual_seed(1)
    model = Turning(dropout=0.0)
    optimizer, probed_with, expected = adam(model.parameters()), [], []
    with watch(model, optimizer, every=1, max_overhead=None, loss=criterion) as watched:
        for x, targets in batches(3):
            x, targets = x.transpose(0, 1), targets.transpose(0, 1)
            value = watched.loss(criterion(model(x), targets), targets)
            optimizer.zero_grad()
            value.backward()
            Turning.calls.clear()
            optimizer.step()
            probed_with.append(list(Turning.calls))
            expected.append(measure(model, x, targets, criterion, num_sequences=4, time_dim=1))
    assert list(watched.records.values()) == expected
    assert probed_with == [[6, 3, 4], [4], [4]]  # a few cut out along either axis, then the probes


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_state_that_is_passed_in_is_cut_with_the_batch(batch_first):
    model = Tagger(nn.LSTM(3, H, num_layers=2, batch_first=batch_first))
    optimizer = adam(model.parameters())
    state = (torch.randn(2, B, H), torch.randn(2, B, H))
    with watch(model, optimizer, every=1, max_overhead=None) as watched:
        for x, _ in batches(2):
            optimizer.zero_grad()
            model(x.transpose(0, 1) if batch_first else x, state=state).square().mean().backward()
            optimizer.step()
    assert watched.record.notes == ()
    assert watched.records[2].precision == "float64"
    assert watched.records[2].profile.num_sequences == 4


class Breaking(nn.Module):
    """Gives NaN, in a place of its own, when the input is large."""

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.first, self.middle, self.last = nn.Linear(3, 4), Root(), nn.Linear(4, 2)

    def forward(self, x):
        y = self.first(x).tanh()
        too_large = bool(x.detach().max() > 50)
        if too_large and self.place == "own":
            y = y * float("inf") * 0
        if self.place == "middle":
            y = self.middle(y - 2 if too_large else y.abs() + 1)
        if too_large and self.place == "backward":
            y = (y * 0).sqrt()
        return self.last(y)


class Root(nn.Module):
    def forward(self, y):
        return y.sqrt()


@pytest.mark.parametrize(
    ("place", "where", "name"),
    [
        ("middle", "activation", "middle"),
        ("own", "activation", "Breaking"),
        ("backward", "gradient", "first.bias"),
        ("input", "input", "Breaking"),
        ("loss", "loss", None),
    ],
)
@pytest.mark.parametrize("handed", [True, False])
def test_what_is_not_finite_is_named(place, where, name, handed):
    if place == "loss" and not handed:
        where, name = "gradient", "last.bias"  # all that can be known without the loss
    model = Breaking(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=100, max_overhead=None) as watched:
        for step in range(1, 8):
            x = torch.randn(5, 3)
            if step >= 4:
                x[0, 0] = 100.0
            if step >= 4 and place == "input":
                x[0, 0] = float("nan")
            optimizer.zero_grad()
            value = model(x).square().mean()
            if step >= 4 and place == "loss":
                value = value * float("inf")
            if handed:
                watched.loss(value)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert watched.record.non_finite == {"step": 4, "where": where, "name": name, "last_finite_step": 3}
    assert "not finite from step 4" in str(watched.record)


def test_targets_that_are_not_finite_are_named():
    model = nn.LSTM(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=100, max_overhead=None) as watched:
        for step in range(1, 5):
            optimizer.zero_grad()
            targets = torch.full((5, 2, 4), float("nan") if step == 3 else 0.0)
            value = (model(torch.randn(5, 2, 3))[0] - targets).square().mean()
            watched.loss(value, targets)
            value.backward()
            optimizer.step()
    assert watched.record.non_finite == {"step": 3, "where": "target", "name": None, "last_finite_step": 2}


@pytest.mark.parametrize(("lag", "going_on"), [(-1, 1.0), (2, None)])
def test_only_targets_that_are_the_next_inputs_tell_whether_a_text_goes_on(lag, going_on):
    ids = torch.randint(50, (60, 4), generator=torch.Generator().manual_seed(0))
    targets = ids.roll(lag, 0)
    model, state = Carried(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=100, max_overhead=None) as watched:
        for begin in range(0, 50, 10):
            outputs, state = model(ids[begin : begin + 10], state)
            value = outputs.square().mean()
            watched.loss(value, targets[begin : begin + 10])
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            state = state.detach()
    carrying = watched.record.carrying
    assert (carrying["handed_on"], carrying["going_on"]) == (1.0, going_on)


class Carried(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(50, 3), nn.GRU(3, 4)

    def forward(self, ids, state):
        return self.rnn(self.embed(ids), state)


def test_weights_that_stop_being_finite_are_named():
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=100, max_overhead=None) as watched:
        for step, (x, targets) in enumerate(batches(3)):
            optimizer.zero_grad()
            criterion(model(x), targets).backward()
            optimizer.param_groups[0]["lr"] = float("nan") if step else 0.1
            optimizer.step()
    assert watched.record.non_finite == {
        "step": 2,
        "where": "weight",
        "name": "recurrent.weight_ih_l0",
        "last_finite_step": 1,
    }


def spoiled(at, every=1000, **choices):
    """A training whose weights become NaN at a step; and its first weights, measured on its first batch by hand."""
    torch.manual_seed(0)
    model = Tagger(nn.RNN(3, H), dropout=0.0)
    first, begun = next(batches(1))[0], copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, every=every, max_overhead=None, **choices) as watched:
        for step, (x, targets) in enumerate(batches(at + 3), start=1):
            optimizer.param_groups[0]["lr"] = math.nan if step == at else 0.01
            optimizer.zero_grad()
            criterion(model(x), targets).backward()
            optimizer.step()
    return watched, measure(begun, first, num_sequences=4)


def test_where_a_training_began_is_measured_once_it_has_ended_in_nan():
    watched, by_hand = spoiled(3)
    assert list(watched.records) == [0]
    assert watched.records[0].profile.log10_gradient == pytest.approx(by_hand.profile.log10_gradient)


def test_where_a_training_began_is_of_no_interest_after_a_probe_or_many_steps():
    assert 0 not in spoiled(5, every=2)[0].records
    assert 0 not in spoiled(70)[0].records


def test_where_a_training_began_may_be_asked_for():
    torch.manual_seed(0)
    model = Tagger(nn.RNN(3, H), dropout=0.0)
    first, begun = next(batches(1))[0], copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer, every=1000, max_overhead=None) as watched:
        plain(model, optimizer, num=3)
    assert not watched.records
    watched.probe_start()
    by_hand = measure(begun, first, num_sequences=4).profile.log10_gradient
    assert watched.records[0].profile.log10_gradient == pytest.approx(by_hand)
    assert measure(model, first, num_sequences=4).profile.log10_gradient != pytest.approx(by_hand)
    watched.probe_start()
    assert list(watched.records) == [0]


def test_a_watch_that_begins_in_the_middle_of_a_step_measures_its_start_on_the_next_batch():
    torch.manual_seed(0)
    model = Tagger(nn.RNN(3, H), dropout=0.0)
    begun, optimizer = copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=1.0)
    watched = watch(model, optimizer, every=1000, max_overhead=None)
    for step, (x, targets) in enumerate(batches(2)):
        value = criterion(model(x), targets)
        if not step:
            watched.start()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    watched.stop()
    watched.probe_start()
    by_hand = measure(begun, list(batches(2))[1][0], num_sequences=4).profile.log10_gradient
    assert watched.records[0].profile.log10_gradient == pytest.approx(by_hand)


def test_parameters_that_nothing_happens_to_are_named():
    model = Tagger()
    model.unused = nn.Linear(2, 2, bias=False)
    model.forgotten = nn.Linear(2, 2, bias=False)
    model.recurrent.bias_hh_l0.requires_grad_(False)
    optimizer = torch.optim.SGD([*model.recurrent.parameters(), *model.unused.parameters()], lr=0.1)
    with watch(model, optimizer, **OFTEN) as watched:
        for x, targets in batches(3):
            optimizer.zero_grad()
            criterion(model(x), targets).backward()
            optimizer.step()
    record = watched.record
    assert record.frozen == ("recurrent.bias_hh_l0",)
    assert record.not_in_optimizer == ("read.weight", "read.bias", "forgotten.weight")
    assert record.without_gradient == ("unused.weight", "forgotten.weight")
    assert record.never_updated == ("read.weight", "read.bias", "unused.weight", "forgotten.weight")


def test_a_gradient_whose_square_underflows_is_a_gradient():
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with watch(model, optimizer, **OFTEN) as watched:
        for x, targets in batches(2):
            optimizer.zero_grad()
            (1e-30 * criterion(model(x), targets)).backward()
            optimizer.step()
    assert watched.record.without_gradient == ()
    assert len(watched.record.never_updated) == 6
    assert 1e-33 < watched.record.samples[0]["gradient_norm"] < 1e-27


def test_save_and_load(tmp_path):
    model = Tagger()
    optimizer = adam(model.parameters())
    with watch(model, optimizer, **OFTEN) as watched:
        plain(model, optimizer, watched)
    path = watched.save(tmp_path / "runs" / "mine")
    loaded = WatchRecord.load(path)
    assert loaded == watched.record
    assert loaded.records == watched.records
    assert list(loaded.records) == [2, 4, 6]
    assert "6 steps, 6 sampled, 3 probed" in str(loaded)


def hooks_of(model, optimizer):
    return (
        len(model._forward_pre_hooks),
        len(optimizer._optimizer_step_pre_hooks),
        len(optimizer._optimizer_step_post_hooks),
        sum(len(p._backward_hooks or {}) for p in model.parameters()),
    )


def test_an_exception_in_the_loop_removes_the_hooks_and_goes_on():
    model = Tagger()
    optimizer = adam(model.parameters())
    with pytest.raises(KeyError, match="mine"), watch(model, optimizer, **OFTEN) as watched:  # noqa: PT012
        plain(model, optimizer, watched, num=3)
        assert hooks_of(model, optimizer) == (1, 1, 1, 6)
        raise KeyError("mine")
    assert hooks_of(model, optimizer) == (0, 0, 0, 0)
    assert watched.record.num_steps == 3


def test_start_and_stop_by_hand():
    model = Tagger()
    optimizer = adam(model.parameters())
    watched = watch(model, optimizer, **OFTEN)
    watched.stop()
    watched.start()
    with pytest.raises(InputError, match="running already"):
        watched.start()
    plain(model, optimizer, watched, num=2)
    watched.stop()
    plain(model, optimizer, watched, num=2)
    watched.start()
    plain(model, optimizer, watched, num=1)
    watched.stop()
    assert watched.record.num_steps == 3
    assert len(watched.record.losses) == 3
    assert hooks_of(model, optimizer) == (0, 0, 0, 0)


@pytest.fixture
def one_process():
    """A process group of one, so that DistributedDataParallel can be made."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_data_parallel_gradients_are_seen_after_they_were_brought_together():
    torch.manual_seed(1)
    model = Tagger(dropout=0.0)
    parallel = nn.parallel.DistributedDataParallel(model)
    # What brings the gradients together doubles them, so that looking too early would show.
    parallel.register_comm_hook(None, lambda _, bucket: doubled(bucket))
    optimizer = adam(model.parameters())
    with watch(parallel, optimizer, **OFTEN) as watched:
        plain(parallel, optimizer, watched, num=2)
    norm = norm_of(p.grad for p in model.parameters())
    assert watched.record.samples[-1]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert watched.record.samples[-1]["clipped_norm"] == pytest.approx(norm, rel=1e-5)
    assert watched.records[2].top == "recurrent"
    assert watched.record.notes == ()


def doubled(bucket):
    future = torch.futures.Future()
    future.set_result(bucket.buffer() * 2)
    return future


def test_of_several_processes_the_first_alone_is_watched(tmp_path):
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        model = Tagger()
        optimizer = adam(model.parameters())
        with watch(model, optimizer, **OFTEN) as watched:
            assert hooks_of(model, optimizer) == (0, 0, 0, 0)
            plain(model, optimizer, watched)
        assert watched.record.num_steps == 0
        assert "this is number 1" in watched.record.notes[0]
        assert watched.save(tmp_path / "mine") is None
        assert not (tmp_path / "mine").exists()
    finally:
        torch.distributed.destroy_process_group()


def test_mistakes_are_told():
    model, other = Tagger(), Tagger()
    with pytest.raises(InputError, match="no parameters"):
        watch(nn.Tanh(), adam(model.parameters()))
    with pytest.raises(InputError, match=r"none of the parameters of Tagger: make it from model.parameters\(\)"):
        watch(model, adam(other.parameters()))
    with pytest.raises(InputError, match="no optimizer"):
        watch(model, [])
    with pytest.raises(InputError, match="not Tagger"):
        watch(model, [other])
    with pytest.raises(RecipeError, match="every must be at least 1"):
        watch(model, adam(model.parameters()), every=0)


def test_a_model_that_cannot_be_measured_is_noted_once_and_trains_on():
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = adam(model.parameters())
    with watch(model, optimizer, **OFTEN) as watched:
        plain(model, optimizer, watched)
    assert watched.record.num_steps == len(watched.record.samples) == 6
    assert not watched.records
    assert len(watched.record.notes) == 1
    assert "time_dim cannot be guessed" in watched.record.notes[0]


def test_evaluations_and_gradients_asked_for_are_no_steps():
    model = Tagger()
    optimizer = adam(model.parameters())
    with watch(model, optimizer, every=1, max_overhead=None) as watched:
        for x, targets in batches(2):
            optimizer.zero_grad()
            criterion(model(x), targets).backward()
            torch.autograd.grad(criterion(model(x), targets), list(model.parameters()))
            with torch.no_grad():
                model(torch.randn(3, 1, 3))
            optimizer.step()
    assert watched.record.num_steps == 2
    assert watched.record.backward_passes_per_step == 1
    assert len(watched.records[2].profile.log10_gradient) > 3


def test_copies_and_files_of_the_model_are_not_watched():
    model = Tagger()
    optimizer = adam(model.parameters())
    with watch(model, optimizer, every=1, max_overhead=None) as watched:
        x, targets = next(batches(1))
        value = criterion(model(x), targets)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            other(torch.randn(3 * T, B, 3)).sum().backward()
        value.backward()
        optimizer.step()
    assert watched.record.num_steps == watched.record.backward_passes_per_step == 1
    assert len(watched.records[1].profile.log10_gradient) <= T


def test_a_pass_that_breaks_off_is_not_taken_for_the_next():
    model = Tagger()
    optimizer = adam(model.parameters())

    def broken(_):
        raise RuntimeError("broken")

    with watch(model, optimizer, **OFTEN) as watched:
        y = model(torch.randn(T, B, 3))
        handle = model.recurrent.weight_hh_l0.register_hook(broken)
        with pytest.raises(RuntimeError, match="broken"):
            y.sum().backward()
        handle.remove()
        plain(model, optimizer, watched, num=2)
    assert watched.record.backward_passes_per_step == 1
    assert watched.record.notes == ()
