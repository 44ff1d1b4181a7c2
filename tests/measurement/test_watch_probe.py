"""What a probe is guessed to take: by the steps along the axis that the model reads as time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime.measurement.watch_probe import SECONDS_A_STEP, Batch, Prober


class Turning(nn.Module):
    """Takes (B, T, I), though its layer, which says so, takes (T, B, I)."""

    def __init__(self):
        super().__init__()
        self.gru, self.dropout, self.calls = nn.GRU(6, 6, num_layers=2), nn.Dropout(0.5), 0

    def forward(self, x):
        self.calls += 1
        return self.dropout(self.gru(x.transpose(0, 1))[0])


def test_the_steps_of_a_model_that_turns_its_inputs_round_are_counted_and_leave_no_trace():
    torch.manual_seed(0)
    model = Turning()
    prober = Prober(model, None, None)
    before = torch.get_rng_state()
    batch = Batch.of((torch.randn(4, 30, 6, generator=torch.Generator()),), {}, "cpu")
    assert prober.guessed_seconds(batch) == pytest.approx(30 * 2 * SECONDS_A_STEP)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.calls == 0
    told = Prober(model, None, 0)
    assert told.guessed_seconds(batch) == pytest.approx(4 * 2 * SECONDS_A_STEP)


@pytest.mark.parametrize("x", [torch.zeros(12, 6), torch.zeros(12, dtype=torch.int64)])
def test_one_sequence_without_a_batch_is_its_steps(x):
    embed = nn.Identity() if x.is_floating_point() else nn.Embedding(3, 6)
    model = nn.Sequential(embed, nn.GRU(6, 6))
    assert Prober(model, None, None).guessed_seconds(Batch.of((x,), {}, "cpu")) == pytest.approx(12 * SECONDS_A_STEP)
