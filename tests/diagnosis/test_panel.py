"""`diagnose` as a whole: order and causes, what is left out and why, and that nothing of the user's is changed."""

from __future__ import annotations

import ast
import copy
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import throughtime
import throughtime.diagnosis
from diagnosis.patients import LastStep, first_input, mse, orthogonal
from throughtime.diagnosis import Diagnosis, Finding, diagnose
from throughtime.diagnosis.finding import CODES, SEVERITIES
from throughtime.diagnosis.panel import RULES
from throughtime.errors import InputError, RecipeError

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"


def saturated() -> nn.Module:
    model = LastStep(orthogonal(1.0))
    with torch.no_grad():
        model.rnn.weight_ih_l0.mul_(100)
    return model


def recalling(model: nn.Module, **options: Any) -> Diagnosis:
    x, y = first_input()
    return diagnose(model, x, y, mse, **{"time_dim": 0, "need": 39} | options)


@pytest.fixture(scope="module")
def ill() -> Diagnosis:
    torch.manual_seed(0)
    return recalling(saturated())


# --- every code ---


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_one_rule_and_one_page(code: str) -> None:
    assert [rule.code for rule in RULES].count(code) == 1
    page = (FINDINGS / f"{code}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {code}\n")
    for part in ("Rule", "Evidence", "Normal", "What to do", "Reference"):
        assert f"*{part}" in page, part


def test_what_the_evidence_of_a_finding_holds_is_on_its_page() -> None:
    """By the source: some evidence belongs to cases that are rare."""
    seen = set()
    for path in Path(throughtime.diagnosis.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and node.args:
                code, *rest = node.args
                if not isinstance(code, ast.Constant):
                    continue
                tables = [part for part in rest if isinstance(part, ast.Dict)]
                names = {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}
                page = (FINDINGS / f"{code.value}.md").read_text(encoding="utf-8")
                assert {name for name in names if f"`{name}`" not in page} == set(), code.value
                seen |= {code.value} if names else set()
    assert len(seen) > 20


def test_there_is_a_page_for_codes_alone_and_a_table_of_all() -> None:
    assert {path.stem for path in FINDINGS.glob("*.md")} == {*CODES, "README"}
    rows = [line for line in (FINDINGS / "README.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| ["]
    assert [row.split("]")[0].removeprefix("| [") for row in rows] == list(CODES)
    for row, (code, meaning) in zip(rows, CODES.items(), strict=True):
        assert row.startswith(f"| [{code}]({code}.md) | {meaning} |")


# --- order, causes ---


def test_causes_stand_before_what_follows_from_them(ill: Diagnosis) -> None:
    errors = [(finding.code, finding.follows) for finding in ill.findings if finding.severity == "error"]
    assert errors == [("saturated-units", None), ("vanishing-gradient", "saturated-units")]


def test_the_most_serious_come_first(ill: Diagnosis) -> None:
    x, y = first_input()
    x = torch.cat([x, torch.ones(40, 64, 1)], -1)  # a feature that never changes is a warning
    model = LastStep(nn.RNN(4, 16))
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(0.3)
    found = diagnose(model, x, y, mse, time_dim=0, need=39).findings
    assert [finding.code for finding in found] == ["vanishing-gradient", "constant-feature"]
    severities = [SEVERITIES.index(finding.severity) for finding in found]
    assert severities == sorted(severities)
    assert severities[0] < severities[-1]


@pytest.mark.parametrize(("size", "severity"), [(0.0, "error"), (10.0, "warning")])
def test_a_loop_that_clips_all_away_stands_before_what_its_model_has_not_learned(size: float, severity: str) -> None:
    """Where a copy that is not clipped learns what holds for others, a gradient that fades is a warning."""
    torch.manual_seed(0)
    model = LastStep(nn.RNN(3, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = first_input(num_steps=20)
    y = y + size * x[-1, :, 1]
    with throughtime.watch(model, optimizer, sample_every=1, every=10**6) as watch:
        for _ in range(12):
            optimizer.zero_grad()
            loss = mse(model(x), y).mean()
            watch.loss(loss.detach())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-5)
            optimizer.step()
    found = diagnose(model, x, y, mse, optimizer, watch, time_dim=0, need=19).findings
    assert [(finding.code, finding.severity) for finding in found] == [
        ("over-clipping", "error"),
        ("vanishing-gradient", severity),
    ]


def test_what_a_rate_has_made_of_the_weights_follows_from_it() -> None:
    torch.manual_seed(0)
    model = LastStep(orthogonal(1.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    x, y = first_input()
    with throughtime.watch(model, optimizer, sample_every=1, max_overhead=None) as watch:
        for _ in range(40):
            optimizer.zero_grad()
            loss = mse(model(x), y).mean()
            watch.loss(loss)
            loss.backward()
            optimizer.step()
    errors = [(f.code, f.follows) for f in recalling(model, optimizer=optimizer, watch=watch).findings]
    assert errors[0] == ("learning-rate-too-high", None)
    assert ("saturated-units", "learning-rate-too-high") in errors


def looped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, *, reset: bool = True) -> Diagnosis:
    """After a watched loop."""
    x, y = first_input()
    with throughtime.watch(model, optimizer, sample_every=1, max_overhead=None) as watch:
        for _ in range(steps):
            if reset:
                optimizer.zero_grad()
            loss = mse(model(x), y).mean()
            watch.loss(loss)
            loss.backward()
            optimizer.step()
    return recalling(model, optimizer=optimizer, watch=watch)


def test_what_made_the_weights_nan_stands_above_that_they_are() -> None:
    """There is nothing left of them that could be measured, so the start of the loop is looked at."""
    torch.manual_seed(0)
    model = LastStep(orthogonal(1.4, "relu"))
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(1.4 * torch.eye(16))
    found = looped(model, torch.optim.SGD(model.parameters(), lr=1.0), 6).findings
    assert not all(bool(weight.isfinite().all()) for weight in model.parameters())
    errors = [(f.code, f.follows) for f in found if f.severity == "error"]
    assert errors[0] == ("exploding-gradient", None)
    assert ("non-finite", "exploding-gradient") in errors
    model = LastStep(orthogonal(0.9))
    found = looped(model, torch.optim.SGD(model.parameters(), lr=1e4, momentum=0.9), 60).findings
    assert not all(bool(weight.isfinite().all()) for weight in model.parameters())
    errors = [(f.code, f.follows) for f in found if f.severity == "error"]
    assert errors[:2] == [("learning-rate-too-high", None), ("non-finite", "learning-rate-too-high")]


def test_what_gradients_that_are_never_reset_lead_to_follows_from_that() -> None:
    torch.manual_seed(0)
    model = LastStep(orthogonal(1.0))
    found = looped(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5), 40, reset=False).findings
    errors = {f.code: f.follows for f in found if f.severity == "error"}
    assert next(iter(errors.items())) == ("gradient-not-reset", None)
    assert errors["clipping-missing"] == "gradient-not-reset"
    assert all(cause is not None for code, cause in errors.items() if code != "gradient-not-reset")


def test_what_units_do_that_are_copies_of_one_another_follows_from_that() -> None:
    model = LastStep(orthogonal(1.0))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.01)
    errors = [
        (f.code, f.follows) for f in recalling(model, optimizer=torch.optim.SGD(model.parameters(), 0.1)).findings
    ]
    assert errors[0] == ("plateau", None)
    assert ("vanishing-gradient", "plateau") in errors


def test_a_cause_that_is_not_wanted_is_no_cause() -> None:
    found = recalling(saturated(), ignore=["saturated-units"])
    assert [(finding.code, finding.follows) for finding in found.findings] == [("vanishing-gradient", None)]
    assert found.ignored == ("saturated-units",)
    assert "saturated-units" not in found.not_checked


def test_data_that_are_not_finite_are_the_only_finding() -> None:
    x, y = first_input()
    x[3, 5] = torch.nan
    found = diagnose(LastStep(orthogonal(0.5)), x, y, mse, time_dim=0, need=39)
    assert [finding.code for finding in found.findings] == ["non-finite-data"]
    assert set(found.not_checked) == set(CODES) - {"non-finite-data"}
    assert set(found.not_checked.values()) == {"data without NaN and infinity"}
    assert found.horizons == {}


# --- what is told ---


def test_healthy_is_without_errors(ill: Diagnosis) -> None:
    assert not ill.healthy
    assert not recalling(saturated(), ignore=["saturated-units"]).healthy
    assert recalling(saturated(), ignore=["saturated-units", "vanishing-gradient"]).healthy
    assert recalling(LastStep(orthogonal(1.0))).healthy


def test_what_could_not_be_looked_at_and_why(ill: Diagnosis) -> None:
    assert ill.not_checked["closed-gates"] == "a recurrence with gates"
    assert ill.not_checked["overfitting"].startswith("validation=(inputs, targets)")
    assert "loop" in ill.not_checked["gradient-not-reset"]
    assert "optimizer" in ill.not_checked["learning-rate-too-high"]
    assert set(ill.not_checked) <= set(CODES)
    assert not set(ill.not_checked) & {finding.code for finding in ill.findings}


def test_it_prints_its_verdict_its_numbers_and_its_gaps(ill: Diagnosis) -> None:
    lines = str(ill).splitlines()
    told = f"need 39, reach {ill.horizons['reach']}, use {ill.horizons['use']}"
    assert lines[:2] == ["not healthy", f"in steps: {told}"]
    first, second = ill.findings[:2]
    assert lines[3:5] == ["error: saturated-units", f"  {first.summary}"]
    assert lines[6:8] == ["error: vanishing-gradient (follows from saturated-units)", f"  {second.summary}"]
    assert "not looked at:" in lines
    assert "  closed-gates: a recurrence with gates" in lines
    assert str(recalling(LastStep(orthogonal(1.0)))).startswith("healthy: no error was found")


def test_it_comes_back_from_a_file(ill: Diagnosis, tmp_path: Path) -> None:
    ill.save(tmp_path / "diagnosis.json")
    found = Diagnosis.load(tmp_path / "diagnosis.json")
    assert found == ill
    assert found.findings == ill.findings
    assert str(found) == str(ill)


def test_the_same_seed_gives_the_same_diagnosis() -> None:
    torch.manual_seed(3)
    model = saturated()
    assert recalling(model, seed=5) == recalling(model, seed=5)


# --- mistakes of the user's ---


def test_a_code_with_a_slip_gets_the_nearest() -> None:
    with pytest.raises(RecipeError, match="unknown code 'vanishing-gradent': did you mean 'vanishing-gradient'"):
        recalling(LastStep(orthogonal(1.0)), ignore=["vanishing-gradent"])


def test_a_single_code_may_be_ignored_as_text() -> None:
    found = recalling(saturated(), ignore="saturated-units")
    assert found.ignored == ("saturated-units",)


def test_a_model_that_fails_says_so_once() -> None:
    with pytest.raises(InputError, match="the model fails on these inputs") as caught:
        diagnose(LastStep(nn.RNN(7, 16)), *first_input(), mse)
    assert "\n" not in str(caught.value)


def test_a_loss_that_fails_says_so_once() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("not with me")

    with pytest.raises(InputError, match=r"the loss fails on outputs of shape \(64, 1\) \(ValueError: not with me\)"):
        diagnose(LastStep(orthogonal(1.0)), *first_input(), loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": lambda x: x}, "model must be a torch.nn.Module, not function"),
        ({"loss": 3}, "loss must be a function of .outputs, targets., not int"),
        ({"optimizer": 0.1}, "optimizer must be a torch.optim.Optimizer, not float"),
        ({"watch": "run"}, "watch must be what throughtime.watch returned, or its record, not str"),
        ({"validation": 1}, r"validation must be \(inputs, targets\)"),
        ({"validation": (torch.zeros(2), torch.zeros(2), torch.zeros(2))}, r"validation must be \(inputs, targets\)"),
        ({"window": 0}, "window must be at least 1 steps, not 0"),
        ({"need": -1}, "need must be at least 0 steps, not -1"),
        ({"time_dim": 2}, "time_dim must be 0 or 1, not 2"),
        ({"inputs": torch.zeros(40, 0, 3)}, r"an input of shape \(40, 0, 3\) holds no numbers"),
        ({"lengths": [3, 4]}, r"2 lengths from 3 to 4 do not fit inputs of shape \(40, 64, 3\): expected one for each"),
        ({"lengths": [41] * 64}, "64 lengths from 41 to 41 do not fit inputs"),
        ({"lengths": "long"}, "lengths must be numbers, one for each sequence, not str"),
        ({"lengths": [1.5] * 64}, "lengths must be whole numbers"),
        ({"model": LastStep(orthogonal(1.0)).to("meta")}, r"rnn.weight_ih_l0 is on the device meta"),
    ],
)
def test_bad_arguments_get_one_clear_line(change: dict[str, Any], message: str) -> None:
    x, y = first_input()
    given = {"model": LastStep(orthogonal(1.0)), "inputs": x, "targets": y, "loss": mse} | change
    with pytest.raises(InputError, match=message) as caught:
        diagnose(**given)
    assert "\n" not in str(caught.value)


# --- what is odd, and is looked at all the same ---


def test_weights_that_are_not_finite_are_an_error_without_an_optimizer_too() -> None:
    model = LastStep(orthogonal(1.0))
    with torch.no_grad():
        model.rnn.weight_hh_l0[0, 0] = torch.nan
    found = recalling(model).findings[0]
    assert (found.code, found.severity) == ("non-finite", "error")
    assert found.evidence["name"] == "rnn.weight_hh_l0"
    assert found.evidence["num_not_finite"] == 1


def test_a_loss_that_does_not_look_at_the_outputs_is_an_error() -> None:
    x, y = first_input()
    model = LastStep(orthogonal(1.0))
    deaf = diagnose(model, x, y, lambda outputs, targets: targets.square().mean(), time_dim=0, need=39)
    assert [(finding.code, finding.evidence["part"]) for finding in deaf.findings] == [("unused-input", "outputs")]
    margin = diagnose(model, x, y, lambda outputs, targets: (outputs - 5).clamp(min=0).sum(), time_dim=0, need=39)
    assert "outputs" not in [finding.evidence.get("part") for finding in margin.findings]


def test_whole_numbers_with_features_and_a_batch_of_one_sequence_are_looked_at() -> None:
    class OfNumbers(LastStep):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    x, y = first_input()
    counted = (10 * x).round().long()
    assert diagnose(OfNumbers(orthogonal(1.0)), counted, y, mse, time_dim=0).horizons["need"] == 39
    alone = diagnose(LastStep(orthogonal(1.0)), x[:, :1], y[:1], mse, time_dim=0)
    assert "at least two sequences" in alone.not_checked["batch-mixing"]


# --- nothing is changed ---


class Odd(nn.Module):
    """Batch norm, dropout and a state that is kept: all that a forward pass may change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.3)
        self.last = LastStep(nn.LSTM(3, 16))
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        return self.last(self.drop(self.norm(x.flatten(0, 1)).view(x.shape)))


@pytest.mark.parametrize(
    "make_optimizer", [lambda p: torch.optim.Adam(p, lr=1e-3), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)]
)
def test_nothing_of_the_users_is_changed(make_optimizer: Callable[[Any], torch.optim.Optimizer]) -> None:
    model = Odd()
    (x, y), validation = first_input(), first_input(seed=2)
    optimizer = make_optimizer(model.parameters())
    mse(model(x), y).mean().backward()
    optimizer.step()
    given = [t.clone() for t in (x, y, *validation)]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None}
    state, num_calls = copy.deepcopy(optimizer.state_dict()), model.num_calls
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return mse(outputs, targets) + 1e-3 * model.last.out.weight.square().sum().to(outputs.dtype)

    found = diagnose(model, x, y, loss, optimizer, validation=validation, time_dim=0)
    assert "has learned" in found.not_checked["overfitting"]  # after both losses were had

    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip((x, y, *validation), given, strict=True))
    assert model.training
    assert model.norm.training
    assert model.num_calls == num_calls
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(gradients)
    for name, p in model.named_parameters():
        kept, values = gradients[name]
        assert p.grad is kept
        assert torch.equal(kept, values)
    assert equal(optimizer.state_dict(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def equal(one: Any, other: Any) -> bool:
    """Deep, with tensors bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_a_diagnosis_comes_back_from_a_file_whatever_its_evidence_holds(tmp_path: Path) -> None:
    evidence = {"features": [1, 2], "norm": math.inf, "by_module": {"rnn": [0.5, math.nan]}}
    finding = Finding("constant-feature", "error", 0.9, "Two features never change.", evidence)
    found = Diagnosis.of([finding], not_checked={}, ignored=(), horizons={}, notes=())
    found.save(tmp_path / "diagnosis.json")
    assert Diagnosis.load(tmp_path / "diagnosis.json") == found
    assert found.findings[0].evidence == {"features": (1, 2), "norm": None, "by_module": {"rnn": (0.5, None)}}
