"""What keeps a gradient from the few steps at which most of the loss is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import evidence
from throughtime.diagnosis import diagnose
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.hard_positions import hard_positions
from throughtime.diagnosis.losses import IGNORED

STEPS, BATCH, ARMS = 20, 256, 4


class Corridor(nn.Module):
    """A way (T, B, F) -> which arm is taken (T, B, C), its state cut from its past every so many steps."""

    def __init__(self, cut_every: int = STEPS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out, self.cut_every = nn.GRUCell(ARMS + 2, 32), nn.Linear(32, ARMS + 1), cut_every
        with torch.no_grad():  # it knows already that there is nothing to be done on the way
            self.out.bias[-1] = 5.0

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.size(1), 32), []
        for step, x_t in enumerate(x):
            h = self.cell(x_t, h.detach() if step % self.cut_every == 0 else h)
            found.append(self.out(h))
        return torch.stack(found)


def maze() -> tuple[Tensor, Tensor]:
    """The first step tells which arm has to be taken in the last one."""
    draw = torch.Generator().manual_seed(1)
    cue = torch.randint(ARMS, (BATCH,), generator=draw)
    x = 0.1 * torch.randn(STEPS, BATCH, ARMS + 2, generator=draw)
    x[0, torch.arange(BATCH), cue] = 1.0
    x[-1, :, -1] = 1.0
    y = torch.full((STEPS, BATCH), ARMS)
    y[-1] = cue
    return x, y


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    found = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return found.view_as(targets)


def of(x: Tensor, y: Tensor, model: nn.Module | None = None) -> Evidence:
    return evidence(Corridor() if model is None else model, x, y, losses, time_dim=0)


def test_the_last_step_is_asked_by_itself() -> None:
    x, y = maze()
    found = hard_positions(of(x, y))
    assert found is not None
    assert found.which == (STEPS - 1,)
    assert found.share > 0.8
    kept = found.evidence.case.targets
    assert torch.equal(kept[-1], y[-1])
    assert bool((kept[:-1] == IGNORED).all())
    assert found.evidence.need == STEPS - 1


def test_none_stand_out_where_all_are_alike_or_the_need_is_known() -> None:
    x, y = maze()
    assert hard_positions(of(x, torch.randint(ARMS, y.shape))) is None
    assert hard_positions(Evidence(replace(of(x, y).case, need=3))) is None
    assert hard_positions(Evidence(replace(of(x, y).case, window=5))) is None
    assert hard_positions(evidence(Corridor(), x, y[-1], lambda o, t: losses(o[-1:], t[None]), time_dim=0)) is None


@pytest.mark.parametrize(("cut_every", "wanted"), [(6, ["truncated-window"]), (STEPS, [])])
def test_a_state_that_is_cut_is_found_though_most_targets_need_no_memory(cut_every: int, wanted: list[str]) -> None:
    x, y = maze()
    found = diagnose(Corridor(cut_every), x, y, losses, time_dim=0)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    assert [finding.code for finding in errors][:1] == wanted
    for finding in errors:
        assert f"This is of step {STEPS - 1} alone, where" in finding.summary
        assert finding.evidence["hard_steps"] == (STEPS - 1,)


HEADERS, FILLERS, MENTIONS = 3, 8, 2
"""Kinds of ids, in this order."""


class Tagger(nn.Module):
    """Ids (B, T) -> the logits of tags (B, T, HEADERS + 1), of an LSTM with a given bias of its forget gates."""

    def __init__(self, forget_bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lstm = nn.Embedding(HEADERS + FILLERS + MENTIONS, 16), nn.LSTM(16, 32, batch_first=True)
        self.out = nn.Linear(32, HEADERS + 1)
        with torch.no_grad():
            self.lstm.bias_hh_l0[32:64] = forget_bias

    def forward(self, ids: Tensor) -> Tensor:
        h, _ = self.lstm(self.embed(ids))
        return self.out(h)


def letters() -> tuple[Tensor, Tensor]:
    """A header, fillers, and a mention at one of the last eight steps, which means what the header says."""
    draw = torch.Generator().manual_seed(2)
    ids = torch.randint(HEADERS, HEADERS + FILLERS, (BATCH, STEPS), generator=draw)
    ids[:, 0] = torch.randint(HEADERS, (BATCH,), generator=draw)
    rows, at = torch.arange(BATCH), torch.randint(STEPS - 8, STEPS, (BATCH,), generator=draw)
    ids[rows, at] = torch.randint(HEADERS + FILLERS, HEADERS + FILLERS + MENTIONS, (BATCH,), generator=draw)
    tags = torch.zeros_like(ids)
    tags[rows, at] = 1 + ids[:, 0]
    return ids, tags


def by_tag(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def trained_tagger(forget_bias: float, steps: int = 150) -> Tagger:
    model, (ids, tags) = Tagger(forget_bias), letters()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        by_tag(model(ids), tags).backward()
        optimizer.step()
    return model


def test_what_is_read_tells_hard_positions_apart_where_steps_do_not() -> None:
    ids, tags = letters()
    found = hard_positions(evidence(trained_tagger(0.0), ids, tags, by_tag, time_dim=1))
    assert found is not None
    assert found.kind == "hard_ids"
    assert found.which == tuple(range(HEADERS + FILLERS, HEADERS + FILLERS + MENTIONS))
    kept = found.evidence.case.targets
    assert torch.equal(kept != IGNORED, tags > 0)
    assert found.evidence.need >= STEPS - 8


@pytest.mark.parametrize(("forget_bias", "wanted"), [(-6.0, ["closed-gates"]), (3.0, [])])
def test_closed_gates_are_found_though_most_tags_need_no_memory(forget_bias: float, wanted: list[str]) -> None:
    found = diagnose(trained_tagger(forget_bias), *letters(), by_tag, time_dim=1)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    assert [finding.code for finding in errors][:1] == wanted
    for finding in errors:
        assert "This is of the steps that read one of the ids 11, 12 alone, where" in finding.summary
    codes = [finding.code for finding in found.findings]
    assert len(codes) == len(set(codes)), "what is said of the hard positions takes the place of what was said of all"
