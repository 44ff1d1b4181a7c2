"""The ledger of a trial: a line for each training that is done, so that a killed trial goes on where it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from throughtime.errors import RunError
from throughtime.storage import MetricsFile
from throughtime.trial.course import Course, CourseResult
from throughtime.trial.looks import Looks

__all__ = ["Ledger"]


class Ledger:
    """What a trial has done so far: in memory, and in a file where there is one.

    Trainings are known by their content (plan, seed, steps), not by their place in the trial.

    Args:
        path: a file of JSON lines; None keeps it in memory.
        patient: a fingerprint of the patient; a ledger of another one is refused.

    Raises:
        RunError: if the file is damaged, or of another patient.
    """

    def __init__(self, path: Path | None, patient: str) -> None:
        self.file = None if path is None else MetricsFile(path)
        self.results: dict[str, CourseResult] = {}
        self.seconds: dict[str, float] = {}
        self.settled: dict[str, tuple[int, int | None]] = {}
        self.num_found = 0
        if self.file is None:
            return
        self.file.truncate_after(0)  # a torn last line, of a process that was killed
        lines = self.file.read()
        if lines and lines[0].get("patient") != patient:
            raise RunError(
                f"{self.file.path} is the ledger of another patient, or of this one before it was changed: remove its "
                "folder, or choose another one"
            )
        if not lines:
            self.file.append({"event": "patient", "patient": patient})
        for line in lines[1:]:
            self._take(line)
        self.num_found = len(self.results)

    def add(self, course: Course, result: CourseResult) -> None:
        """Write down a training that is done."""
        self.results[course.key] = result
        described = {"plan": course.plan.to_json(), "seed": course.seed, "num_steps": course.num_steps}
        self._write({"event": "training", "key": course.key, **described, **_plain(asdict(result))})

    def time(self, kind: str, seconds: float) -> None:
        """Write down how long a step of some kind of plan takes."""
        self.seconds[kind] = seconds
        self._write({"event": "timing", "kind": kind, "seconds": seconds})

    def settle(self, asked: str, num_steps: int, most_trainings: int | None) -> None:
        """Write down the budget that was settled for what was asked."""
        self.settled[asked] = num_steps, most_trainings
        self._write({"event": "budget", "asked": asked, "num_steps": num_steps, "most_trainings": most_trainings})

    def _take(self, line: dict[str, Any]) -> None:
        if line.get("event") == "timing":
            self.seconds[line["kind"]] = line["seconds"]
        elif line.get("event") == "budget":
            self.settled[line["asked"]] = line["num_steps"], line["most_trainings"]
        elif line.get("event") == "training":
            values = {name: line[name] for name in CourseResult.__dataclass_fields__ if name in line}
            looks = Looks.from_json(values["looks"]) if values.get("looks") else None  # older ledgers have none
            self.results[line["key"]] = CourseResult(**values | {"notes": tuple(values["notes"]), "looks": looks})

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.append(line)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
