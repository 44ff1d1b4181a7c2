"""A small model around any recurrent layer, its loss, and its curve over lags."""

from __future__ import annotations

from torch import nn

from throughtime.measurement.gradient import measure


class Tagger(nn.Module):
    def __init__(self, recurrent, width=6):
        super().__init__()
        self.recurrent, self.read = recurrent, nn.Linear(width, 4)

    def forward(self, x, *state):
        return self.read(self.recurrent(x, *state)[0])


def squares(outputs, _):
    return (outputs - 0.3).square().mean(-1)


def curve(*arguments, **choices):
    return measure(*arguments, **choices).log10_gradient
