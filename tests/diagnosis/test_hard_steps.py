"""What keeps a gradient from the few steps at which most of the loss is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import evidence
from throughtime.diagnosis import diagnose
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.hard_steps import hard_steps
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
    found = hard_steps(of(x, y))
    assert found is not None
    assert found.steps == (STEPS - 1,)
    assert found.share > 0.8
    kept = found.evidence.case.targets
    assert torch.equal(kept[-1], y[-1])
    assert bool((kept[:-1] == IGNORED).all())
    assert found.evidence.need == STEPS - 1


def test_none_stand_out_where_all_are_alike_or_the_need_is_known() -> None:
    x, y = maze()
    assert hard_steps(of(x, torch.randint(ARMS, y.shape))) is None
    assert hard_steps(Evidence(replace(of(x, y).case, need=3))) is None
    assert hard_steps(Evidence(replace(of(x, y).case, window=5))) is None
    assert hard_steps(evidence(Corridor(), x, y[-1], lambda o, t: losses(o[-1:], t[None]), time_dim=0)) is None


@pytest.mark.parametrize(("cut_every", "wanted"), [(6, ["truncated-window"]), (STEPS, [])])
def test_a_state_that_is_cut_is_found_though_most_targets_need_no_memory(cut_every: int, wanted: list[str]) -> None:
    x, y = maze()
    found = diagnose(Corridor(cut_every), x, y, losses, time_dim=0)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    assert [finding.code for finding in errors][:1] == wanted
    for finding in errors:
        assert f"This is of step {STEPS - 1} alone, where" in finding.summary
        assert finding.evidence["hard_steps"] == (STEPS - 1,)
