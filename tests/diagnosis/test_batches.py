"""Models that run on batches of one size alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diagnosis.patients import text
from throughtime.diagnosis import Finding, data, diagnose, overfitting, panel
from throughtime.diagnosis.batches import cut_outputs, outputs_of_batches
from throughtime.diagnosis.case import BrokenOff, Case, Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.once import once
from throughtime.diagnosis.rule import Rule
from throughtime.errors import InputError
from throughtime.measurement.probe import Axes, Probe

KINDS, BATCH = 6, 16


class Stateful(nn.Module):
    """Ids (B, T) -> logits of the first one (B, C); the state of a batch of this size goes on into the next."""

    def __init__(self, *, flat: bool = False) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(KINDS, 8), nn.GRU(8, 12, batch_first=True)
        self.out, self.flat = nn.Linear(12, KINDS), flat
        self.state: Tensor | None = torch.zeros(1, BATCH, 12)

    def forward(self, x: Tensor) -> Tensor:
        found, state = self.rnn(self.embed(x), self.state)
        if self.state is not None:
            self.state = state.detach()
        return self.out(found.flatten(0, 1) if self.flat else found[:, -1])


def carrying(*, flat: bool = False) -> Case:
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    x, more = (torch.randint(KINDS, (batch, 10), generator=draw) for batch in (BATCH, 4 * BATCH))
    y, wanted = (each.flatten() if flat else each[:, 0] for each in (x, more))
    return Case(model=Stateful(flat=flat), inputs=x, targets=y, loss=F.cross_entropy, validation=(more, wanted))


def other(model: nn.Module) -> Stateful:
    """The same with a state that fits any batch: what it gives from a start of zeros."""
    free = Stateful()
    free.load_state_dict(model.state_dict())
    free.state = None
    return free


def test_more_sequences_are_run_in_batches_of_the_size_that_the_model_takes() -> None:
    case = carrying()
    inputs, _ = case.validation or ((), ())
    with torch.no_grad():
        assert torch.allclose(outputs_of_batches(case, inputs, Axes(1, 0)), other(case.model)(inputs), atol=1e-6)
    with pytest.raises(InputError, match="multiple of 16 sequences, not 40"):
        outputs_of_batches(case, inputs[:40], Axes(1, 0))


@pytest.mark.parametrize("flat", [False, True])
def test_outputs_are_cut_as_the_targets_are(flat: bool) -> None:
    case = carrying(flat=flat)
    y = case.model(case.inputs)
    parts = cut_outputs(y, Probe.of(case.inputs, case.targets, Axes(1, 0)), 8)
    assert torch.equal(torch.cat([outputs for outputs, _ in parts]), y)
    assert torch.equal(torch.cat([targets for _, targets in parts if targets is not None]), case.targets)
    with pytest.raises(InputError, match="no axis of 16 sequences"):
        cut_outputs(y[:5], Probe.of(case.inputs, case.targets, Axes(1, 0)), 8)


@pytest.mark.parametrize("flat", [False, True])
def test_overfitting_is_looked_for_with_a_state_of_one_size(flat: bool) -> None:
    """Its sequences are told by heart: the training batch is known, and no other one."""
    case = carrying(flat=flat)
    with pytest.raises(Missing, match="has learned"):
        overfitting.find(Evidence(case))
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.03)
    targets = torch.randint(KINDS, case.targets.shape, generator=torch.Generator().manual_seed(2))
    case = Case(**{**vars(case), "targets": targets if not flat else case.targets})
    for _ in range(120 if not flat else 20):
        optimizer.zero_grad()
        case.model.state = torch.zeros(1, BATCH, 12)
        F.cross_entropy(case.model(case.inputs), case.targets).backward()
        optimizer.step()
    case.model.state = torch.zeros(1, BATCH, 12)
    found = overfitting.find(Evidence(case))
    if flat:  # each step's own id, which holds for all
        assert found is None
    else:
        assert found is not None
        assert found.evidence["standard_error"] > 0


# --- what fails ---


class Particular(nn.Module):
    """Ids (B, T) -> logits (B, T, C), of one batch alone, and in the mode of training alone."""

    def __init__(self, ids: Tensor) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(10, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 10)
        self.ids = ids

    def forward(self, x: Tensor) -> Tensor:
        if x.shape != self.ids.shape or not self.training:
            raise ZeroDivisionError("nothing else will do\n(says the model)")
        return self.out(self.rnn(self.embed(x))[0])


def test_a_check_that_fails_ends_no_diagnosis() -> None:
    ids = text()
    found = diagnose(
        Particular(ids[:, :-1]), ids[:, :-1], ids[:, 1:], _by_position, validation=(ids[:6, :-1], ids[:6, 1:])
    )
    assert "ZeroDivisionError" in found.not_checked["overfitting"]
    assert {"non-finite-data", "constant-feature"} & set(found.not_checked) == set()


def test_a_rule_that_fails_says_so_in_a_line_and_the_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(evidence: Evidence) -> Finding | None:
        return evidence.case.model(torch.zeros(3, 3, dtype=torch.long))  # type: ignore[no-any-return]

    monkeypatch.setattr(panel, "RULES", (Rule("plateau", find), *data.RULES))
    ids = text()
    model = Particular(ids[:, :-1])
    found = diagnose(model, ids[:, :-1], ids[:, 1:], _by_position)
    assert found.not_checked["plateau"] == "it broke off with ZeroDivisionError: nothing else will do"
    assert "constant-feature" not in found.not_checked


def _by_position(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def test_a_model_that_fails_on_its_own_batch_is_refused() -> None:
    ids = text()
    with pytest.raises(InputError, match="ZeroDivisionError"):
        diagnose(Particular(ids), ids[:, :-1], ids[:, 1:], _by_position)


def test_an_error_is_remembered_as_what_is_missing() -> None:
    class Evidence:
        calls = 0

        @once
        def horizon(self) -> int:
            self.calls += 1
            return 1 // 0

    evidence = Evidence()
    for _ in range(2):
        with pytest.raises(BrokenOff, match="it broke off with ZeroDivisionError: integer division"):
            _ = evidence.horizon
    assert evidence.calls == 1
