"""What several tests of trials look at."""

from __future__ import annotations

from typing import Any

import pytest

import throughtime
from throughtime.trial.course import CourseResult


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the trainings that are made in this process, as they are made."""
    seeds: list[int] = []
    run = throughtime.trial.engine.run_course

    def counted(patient: Any, course: Any) -> CourseResult:
        seeds.append(course.seed)
        return run(patient, course)

    monkeypatch.setattr(throughtime.trial.engine, "run_course", counted)
    return seeds
