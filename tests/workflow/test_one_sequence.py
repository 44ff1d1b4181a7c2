"""Models that read one sequence at a time, as beginners write them: diagnosed as those that read batches are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.workflow.earlier_batches import EarlierBatches
from throughtime.workflow.one_sequence import OneSequence, as_batch
from throughtime.workflow.script import ScriptDiagnosis, diagnose_script

TAGGER = """
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.out = nn.Embedding(20, 16), nn.LSTM(16, 32), nn.Linear(32, 5)
        {prepare}

    def forward(self, sentence):
        x = self.embed(sentence)
        h, _ = self.lstm(x.view(len(sentence), 1, -1))
        return F.log_softmax(self.out(h.view(len(sentence), -1)), 1)

model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1000):
    sentence = torch.randint(20, (12,))
    tags = torch.cat([torch.zeros(6, dtype=torch.long), sentence[:-6] % 5])
    {reset}
    loss = F.nll_loss(model(sentence), tags)
    loss.backward()
    optimizer.step()
"""


def diagnosed(folder: Path, **choices: str) -> ScriptDiagnosis:
    text = TAGGER.format(**{"prepare": "pass", "reset": "model.zero_grad()"} | choices)
    (folder / "tagger.py").write_text(text, encoding="utf-8")
    return diagnose_script(folder / "tagger.py")


@pytest.mark.parametrize(
    ("codes", "choices"),
    [
        ([], {}),
        (["closed-gates", "vanishing-gradient"], {"prepare": "nn.init.constant_(self.lstm.bias_hh_l0[32:64], -8.0)"}),
        (["gradient-not-reset"], {"reset": "pass"}),
    ],
)
def test_a_script_of_one_sentence_at_a_time(codes: list[str], choices: dict[str, str], tmp_path: Path) -> None:
    found = diagnosed(tmp_path, **choices).diagnosis
    assert found is not None
    assert [each.code for each in found.findings if each.severity == "error"] == codes
    assert found.horizons["need"] == 6
    assert isinstance(found.horizons["reach"], int)


class Series(nn.Module):
    """(T, 3) -> (T, 2), by a whole recurrence or a cell, with or without an axis of one sequence inside."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.rnn = nn.GRUCell(3, 8) if kind == "cell" else nn.GRU(3, 8, batch_first=kind == "batch first")
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "cell":
            h, states = torch.zeros(8), []
            for each in x:
                h = self.rnn(each, h)
                states.append(h)
            return self.out(torch.stack(states))
        if self.kind == "unbatched":
            return self.out(self.rnn(x)[0])
        inside = x[None] if self.kind == "batch first" else x[:, None]
        return self.out(self.rnn(inside)[0].squeeze(0 if self.kind == "batch first" else 1))


class Last(Series):
    """(T, 3) -> (2,)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[-1]


def given(model: nn.Module, x: Tensor, targets: Tensor, loss: Any) -> dict[str, Any]:
    return {"model": model, "inputs": x, "targets": targets, "loss": loss}


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets, reduction="none").mean(-1)


@pytest.mark.parametrize("kind", ["unbatched", "time first", "batch first", "cell"])
@pytest.mark.parametrize("form", [Series, Last])
def test_outputs_and_losses_are_those_of_each_sequence(kind: str, form: type[Series]) -> None:
    torch.manual_seed(0)
    model, x = form(kind), torch.randn(3, 9, 3)
    targets = torch.randn(3, *model(x[0]).shape)
    made = as_batch(given(model, x[0], targets[0], losses), EarlierBatches())
    assert isinstance(made["model"], OneSequence)
    assert made["time_dim"] == 0
    axis = 0 if form is Last else 1
    assert made["inputs"].shape == (9, 1, 3)
    assert torch.equal(made["targets"], targets[:1].movedim(0, axis))
    outputs = made["model"](x.transpose(0, 1))
    assert torch.equal(outputs, torch.stack([model(each) for each in x], axis))
    found = made["loss"](outputs, targets.movedim(0, axis))
    assert torch.equal(found, torch.stack([losses(model(a), b) for a, b in zip(x, targets, strict=True)], axis))


def test_a_model_that_gives_its_own_loss_has_no_targets() -> None:
    class Own(Series):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).square().mean()

    model, x = Own("unbatched"), torch.randn(3, 9, 3)
    made = as_batch({"model": model, "inputs": x[0], "targets": None, "loss": lambda own: own}, EarlierBatches())
    assert made["targets"] is None
    outputs = made["model"](x.transpose(0, 1))
    assert torch.equal(made["loss"](outputs), torch.stack([model(each) for each in x]))


class Table(nn.Module):
    """(B, 3) -> (B, 2): each row of the input is an example."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x[None])[0][0]


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Table(), torch.randn(9, 3)),
        (nn.Linear(3, 2), torch.randn(9, 3)),
        (nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)), torch.arange(5)),
        (nn.GRU(3, 2), torch.randn(9, 4, 3)),
        (Series("unbatched"), torch.randn(2, 3)),
        (Series("unbatched"), torch.randn(9, 4)),
    ],
    ids=["examples in a row", "no recurrence", "ids of examples", "a batch", "two steps", "a call that fails"],
)
def test_what_is_no_single_sequence_stays_as_it_is(model: nn.Module, x: Tensor) -> None:
    before = given(model, x, torch.zeros(len(x)), losses)
    assert as_batch(before, EarlierBatches()) is before


def test_earlier_sequences_of_the_same_length_are_for_validation() -> None:
    torch.manual_seed(0)
    model, earlier = Series("unbatched"), EarlierBatches()
    sequences = [torch.randn(steps, 3) for steps in (9, 7, 9, 9)]
    sequences[2] = sequences[0]
    for x in sequences:
        earlier.keep(x, model(x), Caught(model(x)))  # type: ignore[arg-type]
    made = as_batch(given(model, sequences[-1], model(sequences[-1]).detach() + 1, losses), earlier)
    inputs, targets = made["validation"]
    assert torch.equal(inputs, sequences[0][:, None])
    assert torch.equal(targets, model(sequences[0])[:, None] + 1)


class Caught:
    """As much of a loss as batches are kept with."""

    def __init__(self, outputs: Tensor) -> None:
        self.targets = outputs.detach() + 1
