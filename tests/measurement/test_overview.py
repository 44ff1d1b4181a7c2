"""Need, reach and use in one sentence, where all three are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from throughtime.errors import InputError, RecipeError
from throughtime.measurement.needs import need
from throughtime.measurement.overview import HorizonsRecord, horizons


class Mixes(nn.Module):
    """Adds what it saw some steps ago to what it sees."""

    def __init__(self, lag):
        super().__init__()
        self.lag = lag

    def forward(self, x):
        return x + x.roll(self.lag, 0)


def squares(outputs, targets):
    return (outputs - targets).square().mean(-1) + 0.1


@pytest.mark.parametrize(("needed", "used"), [(12, 12), (12, 5)])
def test_the_sentence_holds_all_three(needed, used, tmp_path):
    x = torch.randn(60, 400, 1, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(60, 400, 1, generator=torch.Generator().manual_seed(1))
    record = horizons(Mixes(used), x, Mixes(needed)(x) + noise, squares, time_dim=0)
    assert (record.need, record.reach) == (needed, used)
    assert record.sentence.startswith(f"Your data needs {needed} steps; the gradient reaches {used}; the model uses")
    if needed == used:
        assert record.use == used
    record.save(tmp_path / "horizons.json")
    assert HorizonsRecord.load(tmp_path / "horizons.json") == record


def test_a_known_need_is_taken_and_an_unknown_one_is_said():
    x = torch.randn(30, 20, 1, generator=torch.Generator().manual_seed(0))
    given = horizons(Mixes(3), x, Mixes(3)(x), squares, time_dim=0, need=7)
    assert (given.need, given.reasons["need"]) == (7, "given")
    with pytest.raises(RecipeError, match="need must be at least 0"):
        horizons(Mixes(3), x, x, squares, time_dim=0, need=-1)
    few = x[:, :2, 0]
    record = horizons(Mixes(3), few.unsqueeze(2)[:20], torch.zeros(20, 2, 1), squares, time_dim=0)
    assert record.need is None
    assert "an unknown number of steps" in record.sentence
    assert "cannot tell" in record.reasons["need"]


def test_of_few_words_the_need_is_at_least_what_was_seen():
    words, others, heads = torch.randint(4, (3, 40, 20), generator=torch.Generator().manual_seed(0))
    targets = torch.where(heads < 2, others, words.roll(5, 0))
    losses = lambda y, t: nn.functional.cross_entropy(y.flatten(0, 1), t.flatten(), reduction="none").view(t.shape)  # noqa: E731
    record = horizons(nn.Embedding(4, 4), words, targets, losses, time_dim=0)
    assert (record.need, record.need_censored, record.censored) == (5, True, {"need"})
    assert record.sentence.startswith("Your data needs at least 5 steps; ")
    more = need(torch.cat([words] * 8, 1), torch.cat([targets] * 8, 1), time_dim=0)
    told = horizons(nn.Embedding(4, 4), words, targets, losses, time_dim=0, need=more)
    assert (told.need, told.need_censored, told.reasons["need"]) == (more.need, more.need_censored, more.reason)


def test_the_axes_of_the_outputs_may_be_told():
    class Behind(Mixes):  # (B, C, T)
        def forward(self, x):
            return super().forward(x).permute(1, 2, 0)

    x, noise = torch.randn(2, 20, 30, 1, generator=torch.Generator().manual_seed(0))
    y = Behind(4)(x) + 0.1 * noise.permute(1, 2, 0)
    told = horizons(Behind(4), x, y, nn.MSELoss(), time_dim=0, need=1, output_dims=(2, 0))
    assert (told.reach, told.use) == (4, 4)
    whole = horizons(Behind(4), x, y, nn.MSELoss(), time_dim=0, need=1, output_dims=(-1, 0))
    assert "the model uses more than the last" in whole.reasons["use"]


def test_steps_that_are_not_those_of_the_inputs_are_not_set_beside_them():
    class Strided(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(1, 4)

        def forward(self, x):
            return self.rnn(x[self.first :: self.stride])[0]

    torch.manual_seed(0)
    model, x = Strided(), torch.randn(40, 30, 1)
    for model.first, model.stride, own in ((0, 2, True), (3, 1, False)):
        y = torch.randn(model(x).shape)
        record = horizons(model, x, y, nn.MSELoss(), time_dim=0, need=1, output_dims=(0, 1))
        assert (record.reach is None) == own
        assert ("steps of its own, which are not those of the inputs" in record.reasons["reach"]) == own
        assert ("the gradient reaches an unknown number" in record.sentence) == own


def test_bad_input_gets_one_clear_line():
    x = torch.randn(20, 30, 1, generator=torch.Generator().manual_seed(0))
    for model, message in ((lambda x: x, "expected a torch.nn.Module"), (nn.RNN(1, 2).to("meta"), "meta device")):
        with pytest.raises(InputError, match=message):
            horizons(model, x, x, squares)
    with pytest.raises(InputError, match="targets of type list cannot be cut to fewer sequences"):
        horizons(Mixes(3), x, [1, 2], squares, time_dim=0)
    with pytest.raises(InputError, match="use needs a loss"):
        horizons(Mixes(3), x, x, None, time_dim=0)


def test_without_targets_what_the_data_needs_cannot_be_told():
    x = torch.randn(20, 30, 1, generator=torch.Generator().manual_seed(0))
    record = horizons(Mixes(3), x, None, lambda y: y.square().mean(-1), time_dim=0)
    assert (record.need, record.reach) == (None, 3)
    assert "need takes a tensor of inputs (T, B, ...) and one of targets" in record.reasons["need"]
