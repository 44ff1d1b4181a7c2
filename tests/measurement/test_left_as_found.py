"""Every measurement of a model leaves it, its data and all random states bit for bit as they were found."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from throughtime.errors import InputError
from throughtime.layer import Recurrent
from throughtime.measurement import measure, spectrum, use

T, B, H = 12, 4, 6
FEATURES = 3


class Reader(nn.Module):
    """Something recurrent between a normalisation that keeps statistics, dropout, counts of its own, and a read-out."""

    def __init__(self, recurrent):
        super().__init__()
        self.norm, self.recurrent = nn.BatchNorm1d(FEATURES), recurrent
        self.dropout, self.read = nn.Dropout(0.2), nn.LazyLinear(2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen, self.fails = [], False

    def forward(self, x):
        self.calls += 1
        self.seen.append(tuple(x.shape))
        y = self.recurrent(self.norm(x.transpose(1, 2)).transpose(1, 2))
        y = y[0] if isinstance(y, tuple) else y
        noise = 0.01 * (random.random() + np.random.rand())
        if self.fails:
            raise KeyError("of the user's own")
        return self.read(self.dropout(y)) + noise


class Loop(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state, outputs = None, []
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(FEATURES, H, batch_first=True)

    def forward(self, x):
        packed = pack_padded_sequence(x, torch.full((x.size(0),), x.size(1)), batch_first=True)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class Twice(nn.Module):
    """One layer under two names, called twice."""

    def __init__(self):
        super().__init__()
        rnn = nn.RNN(FEATURES, FEATURES, batch_first=True)
        self.layers = nn.ModuleList([rnn, rnn])

    def forward(self, x):
        return self.layers[1](self.layers[0](x)[0])[0]


ZOO = {
    "two layers": lambda: nn.LSTM(FEATURES, H, 2, dropout=0.3, batch_first=True),
    "two directions": lambda: nn.GRU(FEATURES, H, bidirectional=True, batch_first=True),
    "lem": lambda: Recurrent("lem", FEATURES, H, num_layers=2, batch_first=True),
    "cells": lambda: Loop(nn.LSTMCell(FEATURES, H)),
    "packed": Packed,
    "shared": Twice,
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(
        nn.RNN(FEATURES, H, batch_first=True), "weight_hh_l0"
    ),
    "transformer": lambda: nn.TransformerEncoderLayer(FEATURES, 1, H, batch_first=True),
}


def bits(tensor):
    return None if tensor is None else tensor.detach().numpy().tobytes()


def snapshot(model, *tensors):
    """All that must be as before, in values that compare bit for bit."""
    return {
        "weights and buffers": {name: bits(value) for name, value in model.state_dict().items()},
        "parameters": {name: (id(p), p.requires_grad, bits(p.grad)) for name, p in model.named_parameters()},
        "tensors": [(id(each), each.requires_grad, bits(each), bits(each.grad)) for each in tensors],
        "modules": {
            name: (
                id(module),
                module.training,
                set(vars(module)),
                *(list(vars(module)[each].items()) for each in vars(module) if each.endswith("_hooks")),
            )
            for name, module in model.named_modules()
        },
        "seen": list(model.seen),
        "random": (bits(torch.get_rng_state()), random.getstate(), np.random.get_state()[1].tobytes()),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()),
    }


def squares(outputs, targets):
    return (outputs - targets).square().mean(-1)


MEASUREMENTS = {
    "measure": lambda model, x, targets: measure(model, x, targets, squares, time_dim=1),
    "use": lambda model, x, targets: use(model, x, targets, squares, time_dim=1, lags=[1, 3]),
    "spectrum": lambda model, x, _: spectrum(model, x, k=2),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("measurement", MEASUREMENTS)
@pytest.mark.parametrize("member", ZOO)
def test_a_model_is_left_as_found(member, measurement, fails):
    if measurement == "spectrum" and member == "transformer":
        pytest.skip("it has no recurrence")
    model = Reader(ZOO[member]()).train(len(member) % 2 == 0)
    x, targets = torch.randn(B, T, FEATURES, requires_grad=True), torch.zeros(B, T, 2)
    squares(model(x), targets).sum().backward()
    model.read.bias.requires_grad_(False)
    model.read.register_forward_hook(lambda *_: None)
    model.recurrent.register_full_backward_hook(lambda *_: None)
    model.fails = fails
    before = snapshot(model, x, targets)
    if fails:
        with pytest.raises(InputError, match=r"KeyError: .of the user's own"):
            MEASUREMENTS[measurement](model, x, targets)
    else:
        MEASUREMENTS[measurement](model, x, targets)
    after = snapshot(model, x, targets)
    for name, value in before.items():
        assert after[name] == value, name
