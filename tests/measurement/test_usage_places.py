"""Outputs of another number of steps than the inputs: from which input lags count, on models built by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime.errors import InputError
from throughtime.measurement.usage import use


class Strided(nn.Module):
    """Says at step s, time first, what it saw at step 2 s - lag, and hardly anything of what it sees at 2 s + ahead."""

    def __init__(self, lag, ahead=0):
        super().__init__()
        self.lag, self.ahead = lag, ahead

    def forward(self, x):
        now = 2 * torch.arange(x.size(0) // 2)
        return 0.01 * x[(now + self.ahead).clamp(max=x.size(0) - 1)] + x[(now - self.lag).clamp(min=0)]


class Turned(nn.Module):
    """The same of (B, T, I)."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


class Said(nn.Module):
    """Its outputs without features, or with these before the steps."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x):
        return self.change(self.inner(x))


def data(num_steps=40, batch=32):
    return torch.randn(num_steps, batch, 2, generator=torch.Generator().manual_seed(0))


def squares(outputs, targets):
    return (outputs - targets).square().mean(-1) + 0.1


def mean(outputs, targets):
    return (outputs - targets).square().mean() + 0.1


@pytest.mark.parametrize(("lag", "ahead"), [(0, 0), (7, 0), (7, 1), (4, 3)])
@pytest.mark.parametrize("loss", [squares, mean])
def test_lags_count_from_the_newest_input_that_a_step_hears(lag, ahead, loss):
    model, x = Strided(lag, ahead), data()
    record = use(model, x, model(x), loss, time_dim=0, lags=range(40))
    assert (record.use, record.verdict) == (lag + ahead, "found")
    turned = Turned(model)
    x = x.transpose(0, 1)
    assert use(turned, x, turned(x), loss, time_dim=1, lags=range(40)) == record


def test_a_pooling_behind_a_layer_as_long_as_the_inputs():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(2, 4, batch_first=True)

        def forward(self, x):
            return nn.functional.avg_pool1d(self.gru(x)[0].transpose(1, 2), 4).transpose(1, 2)

    torch.manual_seed(0)
    model, x = Pooled(), data().transpose(0, 1)
    y = model(x).detach()
    of_steps = use(model, x, y, squares, lags=range(40))
    of_all = use(model, x, y, squares, lags=range(40), output_dims=(-1, 0))
    assert of_steps.use < 25 < of_all.use


def test_an_input_that_does_nothing_in_some_sequences_is_heard():
    class Rectified(nn.Module):
        def forward(self, x):
            now = 2 * torch.arange(x.size(0) // 2)
            return x[(now - 4).clamp(min=0)] + 0.01 * (x[(now + 1).clamp(max=39)] - 0.5).relu()

    model, x = Rectified(), data(batch=64)[..., :1]
    record = use(model, x, model(x), squares, time_dim=0, lags=range(40))
    assert record.use == 5
    assert record.worse[4] > 15  # in all sequences


def test_few_ids_that_sequences_share():
    class Echo(nn.Module):
        def forward(self, ids):
            now = 2 * torch.arange(ids.size(1) // 2)
            return nn.functional.one_hot(ids[:, (now - 5).clamp(min=0)] * 2 + ids[:, now], 4) + 0.01 * ids[:, now, None]

    ids = torch.randint(2, (64, 40), generator=torch.Generator().manual_seed(0))
    found = use(Echo(), ids, Echo()(ids), squares, time_dim=1, lags=range(40))
    assert found.use == 5


def test_a_forecast_of_several_steps_counts_from_the_last_input():
    class Forecast(nn.Module):
        def forward(self, x):
            return torch.stack([x[-9], x[-1], x[-1] + 0.1 * x[-4]], 1)

    model, x = Forecast(), data()
    record = use(model, x, model(x), squares, time_dim=0, lags=range(40))
    assert record.use == 8
    assert use(model, x, model(x), squares, time_dim=0, lags=range(40), output_dims=(-1, 0)) == record


@pytest.mark.parametrize("loss", [lambda o, t: (o - t).square() + 0.1, mean])
def test_steps_that_may_be_features_are_asked_for(loss):
    model, x = Said(Strided(7), lambda y: y[..., 0].t()), data()
    with pytest.raises(InputError, match=r"give output_dims=\(1, 0\) if that is time, or \(-1, 0\) if there is none"):
        use(model, x, model(x), loss, time_dim=0)
    assert use(model, x, model(x), loss, time_dim=0, lags=range(40), output_dims=(1, 0)).use == 7


def test_steps_behind_the_features():
    def each(outputs, targets):  # (B, S)
        return (outputs - targets).square().mean(1) + 0.1

    model, x = Said(Strided(7), lambda y: y.permute(1, 2, 0)), data()
    with pytest.raises(InputError, match=r"give output_dims=\(2, 0\) if that is time"):
        use(model, x, model(x), each, time_dim=0)
    assert use(model, x, model(x), each, time_dim=0, lags=range(40), output_dims=(2, 0)).use == 7
    assert use(model, x, model(x), mean, time_dim=0, lags=range(40), output_dims=(2, 0)).use == 7


@pytest.mark.parametrize("time", [0, 1])
def test_time_and_sequences_in_one_axis(time):
    class Flat(nn.Module):
        def forward(self, x):
            seen = x.movedim(time, 0)
            return seen[(torch.arange(40) - 6).clamp(min=0)].movedim(0, time).flatten(0, 1)

    def one_number(outputs, targets):
        return nn.functional.mse_loss(outputs, targets.flatten(0, 1)) + 0.1

    model, x = Flat(), data().movedim(0, time)
    y = model(x)
    with pytest.raises(InputError, match=r"give output_dims=\(0, 0\)"):
        use(model, x, y, squares, time_dim=time)
    found = use(model, x, y, squares, time_dim=time, lags=range(40), output_dims=(0, 0))
    assert found.use == 6
    for targets, loss in ((y, mean), (y.unflatten(0, x.shape[:2]), one_number)):
        assert use(model, x, targets, loss, time_dim=time, lags=range(40), output_dims=(0, 0)).use == 6
    with pytest.raises(InputError, match="axis 1 does not hold 40 steps of 32 sequences"):
        use(model, x, y, squares, time_dim=time, output_dims=(1, 1))


def test_targets_that_lie_otherwise_than_classes_before_time():
    class Before(nn.Module):
        def forward(self, ids):
            return 20.0 * nn.functional.one_hot(ids[:, (torch.arange(30) - 4).clamp(min=0)], 3).transpose(1, 2)

    ids = torch.randint(3, (48, 30), generator=torch.Generator().manual_seed(0))
    targets = Before()(ids).argmax(1)
    each, one = (nn.CrossEntropyLoss(reduction=reduction) for reduction in ("none", "mean"))
    found = use(Before(), ids, targets, lambda o, t: each(o, t) + 0.01, time_dim=1, lags=range(30))
    assert found.use == 4
    assert use(
        Before(), ids, targets, lambda o, t: one(o, t) + 0.01, time_dim=1, lags=range(30)
    ).worse == pytest.approx(found.worse)


class BothWays(nn.Module):
    """A layer of both directions behind a stride."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(2, 4, bidirectional=True)

    def forward(self, x):
        return self.gru(x[::2])[0]


@pytest.mark.parametrize("output_dims", [None, (0, 1)])
def test_steps_that_all_hear_the_newest_inputs_are_not_guessed_at(output_dims):
    torch.manual_seed(0)
    model, x = BothWays(), data()
    with pytest.raises(InputError, match=r"it is not known from where lags count; give output_dims=\(-1, sequences\)"):
        use(model, x, torch.zeros(20, 32, 8), squares, output_dims=output_dims)


def test_batch_normalisation_in_training_is_named():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(Strided(7)(x).transpose(1, 2)).transpose(1, 2)

    torch.manual_seed(0)
    model, x = Normed(), data()
    with pytest.raises(InputError, match=r"call eval\(\) first"):
        use(model, x, model(x).detach(), squares, time_dim=0)
    model.eval()
    assert use(model, x, model(x).detach(), squares, time_dim=0, lags=range(40)).use == 7
