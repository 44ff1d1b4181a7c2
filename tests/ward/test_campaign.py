"""The campaign of treatments on the ward: one quick case, what is prescribed beside random search once and twice."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from throughtime.diagnosis import Diagnosis, Finding
from ward.cases import CASES

CASE = next(case for case in CASES if case.name == "stateful-truncated-window-1")
SIDES = ["prescribed", "random", "random twice"]


@pytest.fixture(scope="module")
def ward_treat() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "ward_treat.py"
    spec = importlib.util.spec_from_file_location("ward_treat", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ward_treat"] = module
    spec.loader.exec_module(module)
    return module


def told(case: Any, in_training: bool) -> tuple[Diagnosis, None]:
    """What the diagnosis finds, which has tests of its own."""
    finding = Finding("truncated-window", "error", 1.0, "The window is too short.")
    return Diagnosis.of([finding], not_checked={}, ignored=(), horizons={"need": 4}, notes=()), None


def never(case: Any, in_training: bool) -> tuple[Diagnosis, None]:
    raise AssertionError("it has been diagnosed before")


def test_every_side_has_its_line_and_its_compute(
    ward_treat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ward_treat.campaign([CASE], told, tmp_path, jobs=1, sides=SIDES, limit=None)
    assert [line["side"] for line in lines] == SIDES
    prescribed, once, twice = lines
    assert prescribed["cured"]
    assert prescribed["best"] == "a window of twice the need"
    assert [each["level"] for each in prescribed["proofs"]] == [0.0375]
    assert once["most_trainings"] == max(5, prescribed["trainings"])
    assert twice["most_trainings"] == 2 * once["most_trainings"]
    for line in (once, twice):
        assert 0 < line["trainings"] <= line["most_trainings"]
    assert once["arms"][0] == twice["arms"][0]  # the same draws, and more of them
    assert len(json.loads((tmp_path / "campaign.jsonl").read_text().splitlines()[0])) == len(prescribed)
    again = ward_treat.campaign([CASE], never, tmp_path, jobs=1, sides=SIDES, limit=None)
    assert again == lines
    capsys.readouterr()
    found = ward_treat.summary(lines, ["stateful"])
    assert found["cured by prescription"]["cured"] == 1
    assert found["difference to random twice"][0] == 1 - twice["cured"]
    assert "random, twice" in capsys.readouterr().out


def test_random_search_waits_for_what_it_is_compared_with(
    ward_treat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ward_treat.campaign([CASE], never, tmp_path, jobs=1, sides=["random twice"], limit=None) == []
    assert "has to wait for what is prescribed" in capsys.readouterr().out
