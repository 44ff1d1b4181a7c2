"""Where time lies in the outputs, which way a layer runs, and what has to do with what."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from measurement.taggers import Tagger, curve, squares
from throughtime.errors import InputError
from throughtime.measurement.gradient import measure


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(12, 3, 5)


def test_outputs_with_time_last_as_cross_entropy_takes_them():
    class Last(Tagger):
        def forward(self, x):
            return super().forward(x).transpose(1, 2)

    torch.manual_seed(0)
    plain, last = Tagger(nn.GRU(5, 6, batch_first=True)), Last(nn.GRU(5, 6, batch_first=True))
    last.load_state_dict(plain.state_dict())
    x, targets = torch.randn(3, 12, 5), torch.randint(4, (3, 12))
    loss = nn.CrossEntropyLoss()
    expected = curve(plain, x, targets, lambda outputs, targets: loss(outputs.transpose(1, 2), targets))
    assert curve(last, x, targets, loss) == expected


def test_as_many_classes_as_steps_are_no_steps():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.read = nn.GRU(5, 6), nn.Linear(6, 12)

        def forward(self, x):
            return self.read(self.recurrent(x)[1][0])

    torch.manual_seed(0)
    model, x, targets = Last(), torch.randn(12, 3, 5), torch.randint(12, (3,))
    with pytest.raises(InputError, match=r"give output_dims=\(1, 0\) if that is time, or \(-1, 0\) if there is none"):
        measure(model, x, targets, nn.CrossEntropyLoss())
    record = measure(model, x, targets, nn.CrossEntropyLoss(), output_dims=(-1, 0))
    assert record.positions == ()
    assert len(record.lags) == 12


class Pooled(Tagger):
    """Outputs of each second step of a layer that runs all of them."""

    def forward(self, x):
        return super().forward(x)[1::2]


def test_outputs_of_fewer_steps_than_any_layer_ran_count_one_by_one(x):
    torch.manual_seed(0)
    plain, pooled = Tagger(nn.GRU(5, 6)), Pooled(nn.GRU(5, 6))
    pooled.load_state_dict(plain.state_dict())
    found, told = (measure(pooled, x, output_dims=dims) for dims in (None, (0, 1)))
    assert found == told
    assert all(4 <= position < 6 for position in found.positions)
    expected = measure(plain, x)
    assert found.decay_per_step == pytest.approx(expected.decay_per_step, rel=0.2)
    turned = measure(pooled, x, output_dims=(-1, 1))
    assert turned.positions == ()
    assert turned.reach > found.reach


def test_outputs_of_both_directions_of_fewer_steps_are_counted_for_each(x):
    torch.manual_seed(0)
    model = Pooled(nn.GRU(5, 3, bidirectional=True))
    record = measure(model, x)
    forward, backward = (each.log10_gradient for each in record.modules.values())
    steps = [2 * position + 1 for position in record.positions]
    assert (len(forward), len(backward)) == (min(steps) + 1, 12 - max(steps))


def test_steps_that_may_be_features_are_asked_for(x):
    class Scalars(Pooled):
        def forward(self, x):
            return super().forward(x).sum(-1).t()

    torch.manual_seed(0)
    model = Scalars(nn.GRU(5, 6))
    with pytest.raises(InputError, match=r"give output_dims=\(1, 0\) if that is time, or \(-1, 0\) if there is none"):
        measure(model, x)
    assert len(measure(model, x, output_dims=(1, 0)).positions) == 3


def test_features_from_different_steps_are_no_steps(x):
    class Largest(Tagger):
        def forward(self, x):
            return self.recurrent(x)[0].amax(0)

    torch.manual_seed(0)
    assert measure(Largest(nn.GRU(5, 6)), x).positions == ()


def test_a_forecast_of_several_steps_counts_from_the_last_state(x):
    class Forecast(Tagger):
        def forward(self, x):
            return super().forward(x)[-1].unflatten(1, (2, 2))

    torch.manual_seed(0)
    model = Forecast(nn.GRU(5, 6))
    assert measure(model, x).log10_gradient == measure(model, x, output_dims=(-1, 0)).log10_gradient


def test_time_somewhere_else_in_the_outputs_is_asked_for(x):
    class Heads(Tagger):
        def forward(self, x):
            return super().forward(x).view(1, 12, 3, 4)

    with pytest.raises(InputError, match=r"have 12 steps along axis 1, it seems, .* give output_dims="):
        measure(Heads(nn.GRU(5, 6)), x)


def test_a_layer_on_turned_inputs_is_a_backward_direction():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.read = nn.GRU(5, 6), nn.GRU(5, 6), nn.Linear(12, 4)

        def forward(self, x):
            return self.read(torch.cat([self.one(x)[0], self.other(x.flip(0))[0].flip(0)], -1))

    torch.manual_seed(0)
    x, turned, both = torch.randn(20, 3, 5), Turned(), Tagger(nn.GRU(5, 6, bidirectional=True), 12)
    with torch.no_grad():
        for name, weight in turned.one.named_parameters():
            getattr(both.recurrent, name).copy_(weight)
            getattr(both.recurrent, f"{name}_reverse").copy_(getattr(turned.other, name))
    both.read = turned.read
    found, expected = (measure(model, x, torch.zeros(20, 3), squares).modules for model in (turned, both))
    assert found["other"].backward
    assert not found["one"].backward
    for name, same in (("one", "recurrent.l0"), ("other", "recurrent.l0.backward")):
        assert found[name].log10_gradient == pytest.approx(expected[same].log10_gradient, abs=1e-12)
        assert found[name].log10_state_gradient["h"] == pytest.approx(expected[same].log10_state_gradient["h"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_backward_direction_begins_where_the_layer_was_told_to(packed):
    class Both(Tagger):
        def forward(self, x, lengths):
            if not packed:
                return super().forward(x)
            y, _ = self.recurrent(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return self.read(pad_packed_sequence(y)[0])

    torch.manual_seed(0)
    model, lengths = Both(nn.GRU(5, 6, bidirectional=True), 12).double(), torch.tensor([9, 12, 6])
    x, targets = torch.randn(12, 3, 5), torch.zeros(12, 3)
    record = measure(model, (x, lengths), targets, squares, lengths=lengths)
    curves = {name: [] for name in record.modules}
    for row, position in enumerate(record.positions):
        end = int(lengths[row]) if packed else 12
        here = torch.arange(end).unsqueeze(1) == position
        one = (x[:end, row : row + 1], torch.tensor([end]))
        alone = measure(model, one, loss=lambda outputs, here=here: squares(outputs, None) * here)
        for name, profile in alone.modules.items():
            curves[name].append(profile.log10_gradient[: len(record.modules[name].log10_gradient)])
    for name, profile in record.modules.items():
        assert profile.num_sequences == 3
        mean = torch.tensor(curves[name]).mean(0).tolist()
        assert profile.log10_gradient == pytest.approx(mean, abs=1e-5)


def test_mixing_is_seen_where_the_first_sequence_has_no_loss(x):
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.norm = nn.GRU(5, 6), nn.BatchNorm1d(6)

        def forward(self, x):
            return self.norm(self.gru(x)[0][-1])

    def loss(outputs, targets):
        return outputs.square().sum(-1) * targets

    record = measure(Normed(), x, torch.tensor([0.0, 1.0, 1.0]), loss)
    assert any("influence one another" in note for note in record.notes)


class Words(nn.Module):
    """A small transformer, with places embedded too."""

    def __init__(self, embed_places):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(20, 6)
        self.layer, self.read = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True), nn.Linear(6, 9)
        self.embed_places = embed_places

    def forward(self, ids):
        places = torch.arange(ids.size(1))
        added = self.places(places) if self.embed_places else self.places.weight[places]
        mask = torch.ones(len(places), len(places), dtype=torch.bool).triu(1)
        return self.read(self.layer(self.words(ids) + added, src_mask=mask))


@pytest.mark.parametrize("num_sequences", [1, 3])
def test_embedded_places_are_no_inputs(num_sequences):
    torch.manual_seed(0)
    model, ids = Words(embed_places=True), torch.randint(9, (num_sequences, 12))
    record = measure(model, ids, torch.zeros(ids.shape), squares)
    assert set(record.modules) == {"words"}
    model.embed_places = False
    assert record == measure(model, ids, torch.zeros(ids.shape), squares)
    assert not record.profile.notes


class Translator(nn.Module):
    """An encoder, and a decoder of as many steps as it is told, fed with what it is to say."""

    def __init__(self, squeeze):
        super().__init__()
        self.encoder, self.decoder = nn.GRU(5, 6, batch_first=True), nn.GRUCell(4, 6)
        self.read, self.squeeze = nn.Linear(6, 1 if squeeze else 3), squeeze

    def forward(self, x, said):
        return self.run(self.encoder(x)[1][0], said)[1]

    def run(self, h, said):
        steps, outputs = [], []
        for now in said.unbind(1):
            h = self.decoder(now, h).clone()
            steps.append(h)
            outputs.append(self.read(h))
        outputs = torch.stack(outputs, 1)
        return steps, outputs.squeeze(-1) if self.squeeze else outputs


@pytest.mark.parametrize("squeeze", [False, True])
def test_a_decoder_of_another_length_is_measured_at_its_own_steps(squeeze):
    torch.manual_seed(0)
    model, x, said = Translator(squeeze).double(), torch.randn(3, 12, 5).double(), torch.randn(3, 9, 4).double()
    record = measure(model, (x, said), loss=lambda outputs: (outputs - 0.3).square())
    positions, rows = torch.tensor(record.positions), torch.arange(3)
    assert int(positions.min()) >= 6
    steps, outputs = model.run(model.encoder(x)[1][0], said)
    total = (outputs - 0.3).square()[rows, positions].sum()
    gradients = torch.autograd.grad(total, steps, allow_unused=True)
    norms = torch.stack([torch.zeros(3) if g is None else g.norm(dim=1) for g in gradients])
    lags = range(int(positions.min()) + 1)
    expected = [torch.log10(norms[positions - lag, rows] / norms[positions, rows]).mean().item() for lag in lags]
    decoder, encoder = record.modules["decoder"], record.modules["encoder"]
    assert decoder.log10_gradient == pytest.approx(expected, abs=1e-9)
    assert len(encoder.log10_gradient) == 12  # from its last step, which is all that the decoder hears of
    assert not record.notes


def test_outputs_with_steps_of_nobody_are_told():
    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.read = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 24)

        def forward(self, x):
            return self.read(self.gru(x)[0][:, -1]).unflatten(1, (4, 6))

    record = measure(Forecast(), torch.randn(2, 12, 5))
    assert record.positions == ()
    assert record.notes == (
        "outputs of shape (2, 4, 6) have no axis of 12 steps: all of the loss counts, from the last step that it "
        "depends on",
    )
