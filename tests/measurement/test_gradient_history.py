"""The gradient through time over a training, as a record."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import throughtime
from throughtime.measurement import GradientHistory, GradientRecord


def record(gain: float) -> GradientRecord:
    torch.manual_seed(0)
    rnn = nn.RNN(2, 8)
    with torch.no_grad():
        nn.init.orthogonal_(rnn.weight_hh_l0, gain=gain)
    return throughtime.measure(rnn, 0.1 * torch.randn(30, 4, 2))


def test_it_holds_the_curves_and_reaches_of_every_step(tmp_path: Path) -> None:
    records = {0: record(0.4), 7: record(0.6)}
    history = GradientHistory.of(records, window=5, updates={7: {"weight": 0.5}}, seconds=2.0)
    assert history.steps == (0, 7)
    assert history.layers[history.top] == tuple(records[step].log10_gradient for step in (0, 7))
    assert history.reach[history.top] == tuple(records[step].reach for step in (0, 7))
    assert history.reach[history.top][0] < history.reach[history.top][1]
    assert history.update_ratio == {"weight": (None, 0.5)}
    assert str(history).endswith(f"before training and {records[7].reach} after step 7")
    history.save(tmp_path / "history.json")
    assert GradientHistory.load(tmp_path / "history.json") == history


def test_it_is_cut_and_continued() -> None:
    records = {step: record(0.4 + step / 50) for step in (0, 3, 9)}
    whole = GradientHistory.of(records, window=5, updates={3: {"w": 0.1}, 9: {"w": 0.2, "b": 0.3}})
    assert whole.up_to(-1) is None
    assert whole.up_to(99) == whole
    begun = whole.up_to(5)
    assert begun is not None
    assert begun.steps == (0, 3)
    later = GradientHistory.of({9: records[9]}, window=5, updates={9: {"w": 0.2, "b": 0.3}})
    assert begun.then(later) == whole
