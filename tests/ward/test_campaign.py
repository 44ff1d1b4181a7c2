"""The campaign of treatments on the ward: what is prescribed beside random search, once and twice, on a toy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from throughtime.diagnosis import Diagnosis
from trial.toys import Toy
from ward.case import Case, Patient

SIDES = ["prescribed", "random", "random twice"]


def make(seed: int) -> Patient:
    """Its rate is a twentieth of one that it learns at."""
    toy = Toy(rate=2e-3)
    assert toy.steps is not None

    def loop(patient: Patient, num_steps: int) -> None:
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            patient.loss(patient.model(x), y).backward()
            patient.optimizer.step()

    return Patient(
        seed,
        build=toy.build,
        batches=toy.batches,
        loss=toy.loss,
        loop=loop,
        evaluate=toy.score,
        target=toy.target,
        steps_to_learn=toy.steps,
        time_dim=0,
    )


CASE = Case("toy-learning-rate-too-low-0", "toy", "learning-rate-too-low", 0, make)


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


def nothing(case: Case, in_training: bool) -> tuple[Diagnosis, None]:
    """Of a diagnosis, which has tests of its own: what helps most often is tried then."""
    return Diagnosis.of([], not_checked={}, ignored=(), horizons={}, notes=()), None


def never(case: Case, in_training: bool) -> tuple[Diagnosis, None]:
    raise AssertionError("it has been diagnosed before")


def test_every_side_has_its_line_and_its_compute(
    ward_treat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ward_treat.campaign([CASE], nothing, tmp_path, jobs=1, sides=SIDES, limit=None)
    assert [line["side"] for line in lines] == SIDES
    prescribed, once, twice = lines
    assert prescribed["cured"]
    assert [each["level"] for each in prescribed["proofs"]] in ([0.0375], [0.0375, 0.0125])
    assert once["most_trainings"] == max(5, prescribed["trainings"])
    assert twice["most_trainings"] == 2 * once["most_trainings"]
    for line in (once, twice):
        assert 0 < line["trainings"] <= line["most_trainings"]
    assert {arm[0] for arm in once["arms"]} <= {arm[0] for arm in twice["arms"]}  # the same draws, or more of them
    assert len(json.loads((tmp_path / "campaign.jsonl").read_text().splitlines()[0])) == len(prescribed)
    again = ward_treat.campaign([CASE], never, tmp_path, jobs=1, sides=SIDES, limit=None)
    assert again == lines
    capsys.readouterr()
    found = ward_treat.summary(lines, ["toy"])
    assert found["cured by prescription"]["cured"] == 1
    assert found["difference to random twice"][0] == 1 - twice["cured"]
    assert "random, twice" in capsys.readouterr().out


def test_random_search_waits_for_what_it_is_compared_with(
    ward_treat: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ward_treat.campaign([CASE], never, tmp_path, jobs=1, sides=["random twice"], limit=None) == []
    assert "has to wait for what is prescribed" in capsys.readouterr().out


def test_its_processes_find_the_patients(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "ward.py"
    chosen = ["--only", "b_sine-learning-rate-too-low-0", "--sides", "prescribed", "--out", str(tmp_path)]
    command = [sys.executable, str(script), "--treat", "--jobs", "2", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "campaign.jsonl").read_text(encoding="utf-8"))["cured"]
