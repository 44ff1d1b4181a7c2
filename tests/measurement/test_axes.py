"""Models that turn their inputs round before their recurrent modules read them, and those of one sequence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime.errors import InputError
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.gradient import measure
from throughtime.measurement.probe import Axes
from throughtime.measurement.usage import use


class Turning(nn.Module):
    """Takes (B, T, I), though its layer, which says so, takes (T, B, I)."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.read = layer, nn.Linear(6, 4)

    def forward(self, x):
        y = self.layer(x.transpose(0, 1))
        return self.read(y[0] if isinstance(y, tuple) else y).transpose(0, 1)


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


LAYERS = {
    "gru": lambda: nn.GRU(6, 6),
    "attention": lambda: nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0),
}


@pytest.mark.parametrize(("num_sequences", "num_steps"), [(4, 30), (8, 8), (3, 3), (1, 5)])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_model_that_turns_its_inputs_round_is_seen_to(layer, num_sequences, num_steps):
    torch.manual_seed(0)
    model = Turning(LAYERS[layer]())
    x, targets = torch.randn(num_sequences, num_steps, 6), torch.zeros(num_sequences, num_steps)
    assert settled_axes(model, x, None, None) == (Axes(1, 0), False)
    assert measure(model, x, targets, squares) == measure(model, x, targets, squares, time_dim=1)
    if num_sequences > 1:
        assert use(model, x, targets, squares).lags == use(model, x, targets, squares, time_dim=1).lags


def test_a_layer_that_reads_sequences_as_time_is_taken_at_its_word():
    x = torch.randn(20, 12, 6)
    assert settled_axes(nn.GRU(6, 6), x, None, None) == (Axes(0, 1), False)
    assert settled_axes(nn.GRU(6, 6, batch_first=True), x, None, None) == (Axes(1, 0), False)
    assert settled_axes(Turning(nn.GRU(6, 6)), x, 0, None) == (Axes(0, 1), False)


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.gru, self.read = nn.Embedding(9, 6), nn.GRU(6, 6), nn.Linear(6, 4)

    def forward(self, ids):
        return self.read(self.gru(self.embed(ids))[0])


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.read = nn.GRUCell(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        h, outputs = None, []
        for x_t in x:
            h = self.cell(x_t, h)
            outputs.append(self.read(h))
        return torch.stack(outputs)


@pytest.mark.parametrize(("make", "x"), [(Ids, torch.arange(12) % 9), (Loop, torch.linspace(-1, 1, 72).view(12, 6))])
def test_one_sequence_without_a_batch_is_as_a_batch_of_one(make, x):
    torch.manual_seed(0)
    model = make()
    found = measure(model, x, torch.zeros(12), squares)
    expected = measure(model, x.unsqueeze(1), torch.zeros(12, 1), squares, time_dim=0)
    assert found.log10_gradient == pytest.approx(expected.log10_gradient, abs=1e-12)


def test_a_vector_that_no_module_takes_for_a_sequence_is_an_error():
    with pytest.raises(InputError, match=r"inputs of shape \(12,\) have no axes of time and of sequences"):
        measure(nn.Linear(12, 2), torch.randn(12))
