"""Modules of the user's own that are called once a step: what is state, what is output, and what is neither."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from throughtime.measurement.gradient import measure

T, B, H = 13, 3, 6


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


class Cell(nn.Module):
    """Gives an output of its own beside its state, or its state twice."""

    def __init__(self, twice):
        super().__init__()
        self.mix, self.read, self.twice = nn.Linear(5 + H, H), nn.Linear(H, H), twice

    def forward(self, x, h):
        h = torch.tanh(self.mix(torch.cat([x, h], 1)))
        return (h, h) if self.twice else (self.read(h).tanh(), h)


class Decoder(nn.Module):
    def __init__(self, twice=False, encoder=None):
        super().__init__()
        self.encoder, self.cell, self.read = encoder, Cell(twice), nn.Linear(H, 4)

    def forward(self, x):
        return self.run(x if self.encoder is None else self.encoder(x)[0])[1]

    def run(self, x, own=lambda part: part):
        h, handed, outputs = x.new_zeros(B, H), [], []
        for x_t in x:
            y, h = self.cell(x_t, h)
            if self.cell.twice:
                y = h = own(y)
                handed.append((h,))
            else:
                y, h = own(y), own(h)
                handed.append((h, y))
            outputs.append(self.read(y))
        return handed, torch.stack(outputs)


def by_hand(model, x, positions):
    handed, outputs = copy.deepcopy(model).double().run(x.double(), torch.clone)
    rows = torch.arange(B)
    total = squares(outputs, None)[positions, rows].sum()
    flat = [part for step in handed for part in step]
    gradients = torch.autograd.grad(total, flat, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, flat, strict=True)]
    parts = len(handed[0])
    joint = torch.stack([torch.cat(gradients[t : t + parts], 1).norm(dim=1) for t in range(0, len(flat), parts)])
    lags = range(int(positions.min()) + 1)
    return [torch.log10(joint[positions - lag, rows] / joint[positions, rows]).mean().item() for lag in lags]


@pytest.mark.parametrize("twice", [False, True])
def test_an_output_beside_the_state_is_handed_on_too_and_the_state_twice_is_one_variable(twice):
    torch.manual_seed(0)
    model, x = Decoder(twice), torch.randn(T, B, 5)
    record = measure(model, x, torch.zeros(T, B), squares, time_dim=0)
    assert record.top == "cell"
    assert set(record.profile.log10_parts) == ({"h"} if twice else {"h", "output"})
    assert record.log10_gradient == pytest.approx(by_hand(model, x, torch.tensor(record.positions)), abs=1e-9)


def test_a_cell_of_the_users_own_is_found_beside_a_layer_of_torch():
    torch.manual_seed(0)
    model, x = Decoder(encoder=nn.GRU(5, 5)), torch.randn(T, B, 5)
    record = measure(model, x, torch.zeros(T, B), squares)
    assert set(record.modules) == {"encoder", "cell"}
    encoded = model.encoder(x)[0].detach()
    alone = Decoder()
    alone.load_state_dict({name: w for name, w in model.state_dict().items() if not name.startswith("encoder")})
    expected = measure(alone, encoded.double(), torch.zeros(T, B), squares, time_dim=0)
    assert record.modules["cell"].log10_gradient == pytest.approx(expected.log10_gradient, abs=1e-5)


def test_a_layer_that_is_applied_again_and_again_to_whole_sequences_is_no_step():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.read = nn.TransformerEncoderLayer(H, 2, 12, batch_first=True), nn.Linear(H, 4)

        def forward(self, x):
            for _ in range(4):
                x = self.block(x)
            return self.read(x)

    torch.manual_seed(0)
    assert measure(Deep(), torch.randn(B, T, H), torch.zeros(B, T), squares, time_dim=1).kind == "input"
