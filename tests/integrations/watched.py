"""A short training under a watch, for the tests of writers."""

from __future__ import annotations

import torch
from torch import nn

import throughtime
from throughtime.integrations import Feed, Writer
from throughtime.measurement import Watch

__all__ = ["NUM_STEPS", "PROBED", "train_with"]

NUM_STEPS, PROBED = 8, [3, 6]


def train_with(*writers: Writer, update_every: int = 2) -> Watch:
    torch.manual_seed(0)
    rnn = nn.RNN(3, 8)
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
    with throughtime.watch(rnn, optimizer, every=3, max_overhead=None) as watched, Feed(watched, writers) as feed:
        for step in range(NUM_STEPS):
            loss = rnn(torch.randn(15, 4, 3))[0].square().mean()
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % update_every == 0:
                feed.update()
    return watched
