"""Runs and factories as patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from throughtime.errors import InputError, RecipeError, RunError
from throughtime.recipe import Recipe
from throughtime.remedy import TreatmentPlan
from throughtime.storage import RunFolder
from throughtime.trial import Course, run_course
from throughtime.workflow import diagnose_factory, treat_factory, treat_run
from throughtime.workflow.treatment import RunPatient

AS_IT_IS = TreatmentPlan()


def patient_of(run: Path, steps: int = 12) -> RunPatient:
    folder = RunFolder.open(run)
    return RunPatient(Recipe.read(folder.recipe_path), folder.corpus_path, steps)


@pytest.mark.parametrize("model", ["recurrent", "window", "cloze"])
def test_a_run_is_trained_again(runs: dict[str, Path], model: str) -> None:
    patient = patient_of(runs[model])
    first = run_course(patient, Course(plan=AS_IT_IS, seed=0, num_steps=12))
    assert first.failed == ""
    assert first.score is not None
    assert run_course(patient, Course(plan=AS_IT_IS, seed=0, num_steps=12)) == first
    assert run_course(patient, Course(plan=AS_IT_IS, seed=1, num_steps=12)).score != first.score
    longer = run_course(patient, Course(plan=AS_IT_IS, seed=0, num_steps=60))
    assert longer.score is not None
    assert longer.score > first.score


@pytest.mark.parametrize("model", ["recurrent", "cloze", "window"])
def test_a_run_that_is_trained_again_is_looked_at(runs: dict[str, Path], model: str) -> None:
    patient = patient_of(runs[model])
    course = Course(plan=AS_IT_IS, seed=0, num_steps=12)
    seen = run_course(patient, replace(course, looked_at=True))
    assert seen.score == run_course(patient, course).score
    assert seen.looks is not None
    assert seen.looks.steps == (0, 3, 12)
    assert None not in seen.looks.losses
    assert (seen.looks.history is None) is (model == "window")
    assert (seen.looks.window, seen.looks.cannot_tell) == (
        (None, "the model has no recurrence, or the text is too short") if model == "window" else (6, "")
    )


def test_a_plan_changes_the_recipe_of_a_run(runs: dict[str, Path]) -> None:
    treated = patient_of(runs["recurrent"]).treated(TreatmentPlan(cell="gru", learning_rate=0.5, window=9))
    plan = treated.recipe.plan
    assert (plan.cell, plan.learning_rate, plan.window) == ("gru", 0.5, 9)
    _, optimizer = treated.build(0)
    assert optimizer.param_groups[0]["lr"] == 0.5
    (ids, first, last), _ = next(treated.batches(0))
    assert last - first == 9
    assert ids.dtype == torch.int64


def test_what_a_recipe_has_no_choice_for_fails_in_words(runs: dict[str, Path]) -> None:
    with pytest.raises(RecipeError, match="a run has no choice of omega"):
        patient_of(runs["recurrent"]).treated(TreatmentPlan(omega=1.0))
    with pytest.raises(RecipeError, match="leave out patience"):
        patient_of(runs["recurrent"]).treated(TreatmentPlan(patience=3))
    result = run_course(patient_of(runs["recurrent"]), Course(plan=TreatmentPlan(omega=1.0), seed=0, num_steps=2))
    assert result.failed.startswith("a run has no choice of omega")


def test_a_run_is_better_or_not_and_never_cured(runs: dict[str, Path], tmp_path: Path) -> None:
    found = treat_run(runs["recurrent"], steps=6, remedies=["gentler-rate"], jobs=1, out=tmp_path / "trial")
    assert found.target is None
    assert not found.cured
    assert found.baseline.num_steps == 6
    assert found.baseline.reach is not None
    assert "reach" in found.table
    assert (tmp_path / "trial" / "treatment.json").exists()
    page = (tmp_path / "trial" / "report.html").read_text(encoding="utf-8")
    assert "mean score" in page
    assert "a third of that rate" in page
    assert "To make it again" in page
    for figure in ("trial", "gradient-history-0", "gradient-history-1", "arm-losses"):
        assert f'id="{figure}"' in page
    assert "seeds learn" not in found.table


def test_a_factory_that_returns_no_patient_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_patient.py").write_text("def made():\n    return 3\n\ndef fails():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="int has no 'build'"):
        treat_factory("no_patient:made", jobs=1)
    with pytest.raises(InputError, match="no_patient:fails fails \\(ZeroDivisionError"):
        treat_factory("no_patient:fails", jobs=1)


def test_the_patient_itself_may_have_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_patient_of_mine.py").write_text(
        "from trial.toys import Toy\n\nfast = Toy(rate=0.05)\nslow = Toy()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert treat_factory("a_patient_of_mine:fast", jobs=1).nothing_to_treat
    assert [finding.code for finding in diagnose_factory("a_patient_of_mine:slow").findings] == [
        "learning-rate-too-low"
    ]
    with pytest.raises(InputError, match="'slo' in the module a_patient_of_mine is not there"):
        treat_factory("a_patient_of_mine:slo", jobs=1)


def test_a_run_that_was_never_trained_needs_steps(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(Recipe().to_toml())
    with pytest.raises(RunError):
        treat_run(tmp_path, jobs=1)
