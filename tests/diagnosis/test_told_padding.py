"""Padding that an embedding tells of, and what is read of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import cross_entropy, evidence
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.told_padding import read_after_end, told_lengths
from throughtime.diagnosis.wiring_padding import padding_read

KINDS, STEPS = 12, 40


def sentences(batch: int = 16, longest: int = 12) -> tuple[Tensor, Tensor]:
    """Ids (B, T) that end in zeros, all but one of them short, and their lengths."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, longest, (batch,), generator=draw)
    lengths[0] = STEPS
    ids = torch.randint(1, KINDS, (batch, STEPS), generator=draw)
    return ids.masked_fill(torch.arange(STEPS) >= lengths.unsqueeze(1), 0), lengths


class Words(nn.Module):
    """Ids (B, T) -> logits (B, C), or (B, T, C), in one of the ways in which people read padded sequences."""

    def __init__(self, read: str, padding_idx: int | None = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(KINDS, 8, padding_idx=padding_idx)
        self.rnn, self.out, self.read = nn.RNN(8, 16, batch_first=True), nn.Linear(16, 5), read

    def forward(self, ids: Tensor) -> Tensor:
        found = self.rnn(self.embed(ids))[0]
        valid = (ids != 0).unsqueeze(2)
        if self.read == "last step":
            found = found[:, -1]
        elif self.read == "last word":
            found = found[torch.arange(len(ids)), (ids != 0).sum(1) - 1]
        elif self.read == "mean of words":
            found = (found * valid).sum(1) / valid.sum(1)
        elif self.read == "mean of all":
            found = found.mean(1)
        elif self.read == "each step and the mean of words":
            found = found + (found * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        return self.out(found)


def reading(read: str, targets: Tensor | None = None, ids: Tensor | None = None, **options: Any) -> Evidence:
    ids = sentences()[0] if ids is None else ids
    targets = torch.arange(len(ids)) % 5 if targets is None else targets
    return evidence(Words(read, **options), ids, targets, cross_entropy, time_dim=1)


def test_lengths_are_told_by_the_embedding_that_reads_the_ids() -> None:
    _, lengths = sentences()
    found = told_lengths(reading("last step").trials)
    assert found is not None
    assert torch.equal(found, lengths)


@pytest.mark.parametrize("case", ["no padding_idx", "between words", "in front", "none padded"])
def test_lengths_are_not_told(case: str) -> None:
    ids, _ = sentences()
    if case == "between words":
        ids[3, 1] = 0
    if case == "in front":
        ids = ids.flip(1)
    if case == "none padded":
        ids = ids.clamp(min=1)
    given = reading("last step", ids=ids, padding_idx=None if case == "no padding_idx" else 0)
    assert told_lengths(given.trials) is None
    with pytest.raises(Missing, match="lengths="):
        padding_read(given)


def test_the_last_step_of_padded_sequences_is_read() -> None:
    found = padding_read(reading("last step"))
    assert found is not None
    assert found.severity == "error"
    assert found.evidence["share_left"] < 1e-3  # a plain network forgets within 28 steps
    assert found.evidence["output_effect"] > 0.5


@pytest.mark.parametrize("read", ["last word", "mean of words"])
def test_what_stops_at_the_last_word_reads_none(read: str) -> None:
    given = reading(read)
    assert padding_read(given) is None
    lengths = told_lengths(given.trials)
    assert lengths is not None
    read_too = read_after_end(given.trials, lengths)
    assert read_too.effect < 1e-5
    assert read_too.left == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("read", ["last word", "mean of words", "each step and the mean of words"])
def test_padding_that_is_known_by_its_id_is_not_read_though_lengths_are_handed_over(read: str) -> None:
    """Other ids in its place are words to such a model."""
    ids, lengths = sentences()
    targets = torch.where(ids == 0, -100, ids % 5) if read.startswith("each step") else torch.arange(len(ids)) % 5
    options: dict[str, Any] = {"time_dim": 1, "lengths": lengths}
    assert padding_read(evidence(Words(read), ids, targets, cross_entropy, **options)) is None
    deaf = evidence(Words("last step"), ids, torch.arange(len(ids)) % 5, cross_entropy, **options)
    found = padding_read(deaf)
    assert found is not None
    assert found.severity == "error"


def test_an_average_over_all_steps_is_a_warning() -> None:
    found = padding_read(reading("mean of all"))
    assert found is not None
    assert found.severity == "warning"
    assert 0.1 < found.evidence["share_left"] < 0.7


def test_a_loss_of_padded_steps() -> None:
    ids, lengths = sentences()
    tags = ids % 5
    found = padding_read(reading("each step", tags))
    assert found is not None
    assert found.severity == "error"
    assert found.evidence["loss_share"] > 0.6
    ignored = tags.masked_fill(torch.arange(STEPS) >= lengths.unsqueeze(1), -100)
    assert padding_read(reading("each step", ignored)) is None


def test_targets_that_are_no_padding_there_may_have_steps_of_their_own() -> None:
    targets = torch.randint(5, (16, STEPS), generator=torch.Generator().manual_seed(5))
    with pytest.raises(Missing, match="single steps"):
        padding_read(reading("each step", targets))
