"""The diagnosis of a run's folder and of what a factory in the user's own code returns."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import throughtime
from throughtime.cli.main import run
from throughtime.diagnosis import Diagnosis, wiring
from throughtime.errors import InputError, RecipeError
from throughtime.remedy import Prescription
from throughtime.storage import MetricsFile, RunFolder
from throughtime.workflow.diagnosis import (
    DIAGNOSIS_FILE,
    _apart,
    diagnose_factory,
    diagnose_run,
    examine_factory,
    is_factory,
)
from tiny import TINY, made_text

CODES_OF_WIRING = [rule.code for rule in wiring.RULES]

MODULE = """
import torch
from torch import nn

torch.manual_seed(0)

class Last(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.rnn, self.out = nn.RNN(3, 16), nn.Linear(16, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=gain)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])

def mse(outputs, targets):
    return (outputs.squeeze(-1) - targets).square()

def made(gain):
    x = 0.3 * torch.randn(40, 64, 3)
    return {"model": Last(gain), "inputs": x, "targets": x[0, :, 0], "loss": mse, "need": 39, "time_dim": 0}

def healthy():
    return made(1.0)

def fading():
    return made(0.5)

class Patient:
    def build(self, seed):
        parts = fading()
        return parts["model"], torch.optim.Adam(parts["model"].parameters())
    def batches(self, seed):
        parts = fading()
        yield parts["inputs"], parts["targets"]
    def loss(self, outputs, targets):
        return fading()["loss"](outputs, targets)

class Few(Patient):
    def batches(self, seed):
        while True:
            parts = fading()
            yield parts["inputs"][:, :20], parts["targets"][:20]

class Told(Patient):
    need = 39
    def batches(self, seed):
        x = torch.randn(40, 8, 3)
        yield x, x[0, :, 0]

def broken():
    raise RuntimeError("no such file")

def a_list():
    return [1, 2]

def nothing():
    return {}

def without_targets():
    return {name: value for name, value in healthy().items() if name != "targets"}

def with_a_slip():
    return healthy() | {"optimiser": None}

def with_ignore():
    return healthy() | {"ignore": ["plateau"]}

def fails():
    return healthy() | {"inputs": torch.zeros(40, 64, 5)}

VALUE = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the present one, with a module `factories_of_mine` in it."""
    (tmp_path / "factories_of_mine.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "fails_on_import.py").write_text("import no_such_module_anywhere\n", encoding="utf-8")
    (tmp_path / "bad_on_import.py").write_text("x = 1 / 0\n", encoding="utf-8")
    (tmp_path / "empty_module.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


# --- factories ---


def test_a_healthy_and_an_ill_one(factories: Path) -> None:
    assert diagnose_factory("factories_of_mine:healthy").healthy
    for name in ("fading", "Patient", "Few", "Told"):
        found = diagnose_factory(f"factories_of_mine:{name}")
        assert [finding.code for finding in found.findings] == ["vanishing-gradient"]
    ignored = diagnose_factory("factories_of_mine:fading", ignore=["vanishing-gradient"])
    assert ignored.healthy
    assert ignored.ignored == ("vanishing-gradient",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_of_mine:made", "there is no module 'no_such_module_of_mine', in "),
        ("fails_on_import:made", "the module fails_on_import cannot be imported (No module named 'no_such_module_any"),
        ("bad_on_import:made", "the module bad_on_import cannot be imported (ZeroDivisionError: division by zero)"),
        ("empty_module:made", "'made' in the module empty_module is not there: it has no functions"),
        ("factories_of_mine:healty", "'healty' in the module factories_of_mine is not there: did you mean 'healthy'?"),
        ("factories_of_mine:VALUE", "'VALUE' in the module factories_of_mine is not callable"),
        (
            "factories_of_mine:broken",
            "factories_of_mine:broken fails (RuntimeError: no such file), in factories_of_mine.py",
        ),
        ("factories_of_mine:made", "factories_of_mine:made fails (TypeError: made() missing 1 required"),
        ("factories_of_mine:a_list", "factories_of_mine:a_list returns list: expected a mapping with model, inputs"),
        ("factories_of_mine:nothing", "what factories_of_mine:nothing returns has no 'model': it has nothing"),
        (
            "factories_of_mine:without_targets",
            "what factories_of_mine:without_targets returns has no 'targets': it has model, inputs, loss",
        ),
        (
            "factories_of_mine:with_a_slip",
            "what factories_of_mine:with_a_slip returns has an unknown 'optimiser': did you mean 'optimizer'?",
        ),
        ("factories_of_mine:with_ignore", "has an unknown 'ignore': "),
        ("factories_of_mine:fails", "the model fails on these inputs"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    name: str, message: str, factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError) as caught:
        diagnose_factory(name)
    assert message in str(caught.value)
    assert run(["diagnose", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("throughtime: ")
    assert message in line


def test_the_command_exits_with_0_for_a_healthy_one_and_1_for_an_ill_one(
    factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", "factories_of_mine:healthy"]) == 0
    assert capsys.readouterr().out.startswith("healthy: no error was found\nin steps: need 39, reach 39, use ")
    assert run(["diagnose", "factories_of_mine:fading"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("not healthy\nin steps: need 39, reach ")
    assert "\nerror: vanishing-gradient\n" in out
    assert run(["diagnose", "factories_of_mine:fading", "--ignore", "vanishing-gradient", "--seed", "3"]) == 0


def test_json_is_the_record(factories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", "factories_of_mine:fading", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    prescription = content.pop("prescription")
    (tmp_path / "found.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "prescription.json").write_text(json.dumps(prescription), encoding="utf-8")
    found = Diagnosis.load(tmp_path / "found.json")
    assert [finding.code for finding in found.findings] == ["vanishing-gradient"]
    assert found.findings[0].evidence["need"] == 39
    assert Prescription.load(tmp_path / "prescription.json").steps[0].remedy == "critical-start"


def test_what_to_do_first_stands_below_what_is_wrong(factories: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reach that it promises from the model's own sizes and inputs; and it is what is measured then."""
    assert run(["diagnose", "factories_of_mine:fading"]) == 1
    _, told = capsys.readouterr().out.split("\nwhat to do first:\n")
    assert told.startswith("1. vanishing-gradient: orthogonal start at the critical gain, as the recurrent weights")
    assert told.count("\n    ") == 3
    first = examine_factory("factories_of_mine:fading").prescription.steps[0]
    assert first.reach_after == 39
    given = importlib.import_module("factories_of_mine").fading()
    model, _ = first.treatment.apply(given["model"], torch.optim.SGD(given["model"].parameters(), lr=0.1))
    assert throughtime.measure(model, given["inputs"], time_dim=0).reach == 39
    assert run(["diagnose", "factories_of_mine:healthy"]) == 0
    assert "what to do" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["factories_of_mine:healthy", "--ignore", "vanishing"], "unknown code 'vanishing': did you mean"),
        (["factories_of_mine:healthy", "3"], "only a script (.py) takes arguments, and factories_of_mine:healthy is"),
        (["no_such_folder"], "no_such_folder"),
    ],
)
def test_other_mistakes_on_the_command_line(
    arguments: list[str], message: str, factories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line


def test_what_is_the_name_of_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_factory("package.module:factory")
    assert not is_factory("runs/first")
    assert not is_factory(":factory")
    assert not is_factory("module:")
    assert not is_factory("C:\\runs")
    assert is_factory("odd:name")
    Path("odd:name").mkdir()
    assert not is_factory("odd:name")


# --- runs ---


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosis")
    (folder / "book.txt").write_text(made_text(), encoding="utf-8")
    throughtime.train(folder / "book.txt", out=folder / "run", epochs=2, **TINY)
    return folder / "run"


def test_a_run_is_diagnosed_from_its_validation_text_and_its_metrics(tiny_run: Path) -> None:
    found = diagnose_run(tiny_run, threads=1)
    assert Diagnosis.load(tiny_run / DIAGNOSIS_FILE) == found
    assert found.horizons["reach"] is not None
    assert "over-clipping" not in found.not_checked  # the metrics say what was clipped
    assert "overfitting" not in found.not_checked  # the second half of the stretches is validation
    assert "optimizer" in found.not_checked["learning-rate-too-high"]
    assert "batch-mixing" not in found.not_checked  # the stretches are not all the same
    assert found.healthy
    assert diagnose_run(tiny_run, threads=1) == found


def test_a_two_sided_run_is_looked_at_from_either_side(runs: dict[str, Path]) -> None:
    found = diagnose_run(runs["cloze"], threads=1)
    assert Diagnosis.load(runs["cloze"] / DIAGNOSIS_FILE) == found
    assert found.healthy
    assert [note.split(":")[0] for note in found.notes] == ["before the blank", "behind the blank"]
    assert all(steps is not None for steps in (found.horizons["reach"], found.horizons["use"]))
    # nothing of a working network looks unused, leaking or untrained for standing half still
    assert not {finding.code for finding in found.findings} & set(CODES_OF_WIRING)


@pytest.mark.parametrize(
    ("num_words", "sequences", "window", "expected"),
    [
        (100_000, 32, 35, (200, 32)),  # as for `measure_run`
        (4000, 32, 35, (125, 32)),
        (1000, 32, 35, (70, 14)),  # twice the window, and fewer stretches
        (142, 32, 6, (12, 11)),
        (30, 32, 35, (30, 4)),  # too short to be apart
    ],
)
def test_stretches_do_not_overlap(num_words: int, sequences: int, window: int, expected: tuple[int, int]) -> None:
    assert _apart(num_words, sequences, window) == expected
    steps, number = expected
    assert steps * number <= num_words or number == 4


def test_the_metrics_become_a_history(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def noted(*arguments: object, **options: object) -> Diagnosis:
        given.update(options)
        return Diagnosis(values=(), not_checked={}, ignored=(), horizons={}, notes=())

    monkeypatch.setattr("throughtime.workflow.diagnosis.diagnose", noted)
    diagnose_run(tiny_run, sequences=8, threads=1)
    lines = [line for line in MetricsFile(RunFolder.open(tiny_run).metrics_path).read() if line.get("event") == "step"]
    history = given["watch"]
    assert history.num_steps == len(lines) == len(history.losses)
    assert [sample["gradient_norm"] for sample in history.samples] == [line["gradient_norm"] for line in lines]
    assert [sample["clipped_norm"] for sample in history.samples] == [line["clipped_gradient_norm"] for line in lines]
    assert history.losses[0] == lines[0]["loss_nats"]
    assert history.step_seconds > 0
    assert given["window"] == TINY["window"]


def test_the_command_takes_a_run(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", str(tiny_run), "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith("healthy: no error was found")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ignore": ["platau"]}, RecipeError, "did you mean 'plateau'"),
        ({"sequences": 1}, RecipeError, "sequences must be at least 2"),
    ],
)
def test_choices_that_are_refused(
    options: dict[str, object], error: type[Exception], message: str, tiny_run: Path
) -> None:
    with pytest.raises(error, match=message):
        diagnose_run(tiny_run, **options)


def test_a_network_without_a_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(made_text(), encoding="utf-8")
    throughtime.train(tmp_path / "book.txt", out=tmp_path / "run", model="window", steps=2, **TINY)
    with pytest.raises(RecipeError, match="not recurrent from left to right"):
        diagnose_run(tmp_path / "run")
