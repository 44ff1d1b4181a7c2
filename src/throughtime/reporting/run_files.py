"""What a run has left in its folder, as far as it is there, and for what is not the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from throughtime.diagnosis import Diagnosis
from throughtime.errors import RecipeError, RunError
from throughtime.measurement import GradientHistory, HorizonsRecord, SpectrumRecord
from throughtime.recipe import Recipe
from throughtime.reporting.text_record import TextRecord
from throughtime.storage import MetricsFile, Record, RunFolder, read_json
from throughtime.trial import Treatment

__all__ = ["RECORD_FILES", "RunFiles", "read_run"]

R = TypeVar("R", bound=Record)

RECORD_FILES = {
    "diagnosis": "diagnosis.json",
    "history": "records/gradient-history.json",
    "horizons": "records/horizons.json",
    "spectrum": "records/spectrum.json",
    "text": "records/text.json",
    "treatment": "treatment/treatment.json",
}
"""Where each record of a run lies in its folder."""


@dataclass(frozen=True)
class RunFiles:
    """Everything that a page about a run is made of.

    Attributes:
        path: the folder.
        recipe: all choices; None where they cannot be read.
        origin: versions, machine, command, hash of the corpus.
        schedule: the settled budget.
        outcome: how it ended; empty where it has not.
        steps: what was logged of each update.
        evaluations: what was logged of each evaluation.
        diagnosis: what is wrong with it.
        history: the gradient through time while it trained.
        horizons: need, reach and use, measured by themselves.
        spectrum: of the trained network.
        text: what it makes of words.
        treatment: what was tried beside it.
        missing: for what is not there, by the name of the attribute, why.
    """

    path: Path
    recipe: Recipe | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    diagnosis: Diagnosis | None = None
    history: GradientHistory | None = None
    horizons: HorizonsRecord | None = None
    spectrum: SpectrumRecord | None = None
    text: TextRecord | None = None
    treatment: Treatment | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def steps_of_memory(self) -> dict[str, int | None]:
        """Need, reach and use, by the diagnosis or else by `horizons`."""
        if self.diagnosis is not None and self.diagnosis.horizons:
            return dict(self.diagnosis.horizons)
        found = self.horizons
        return {} if found is None else {"need": found.need, "reach": found.reach, "use": found.use}

    @property
    def censored(self) -> frozenset[str]:
        """Those of them that may be larger than what was seen."""
        if self.diagnosis is not None and self.diagnosis.horizons:
            return frozenset(self.diagnosis.censored)
        return frozenset() if self.horizons is None else self.horizons.censored


def read_run(path: Path, reasons: dict[str, str] | None = None) -> RunFiles:
    """All of it.

    Args:
        path: the folder of the run.
        reasons: why something could not be made, by the name of the attribute; said where it is not there.

    Raises:
        RunError: if there is no run.
    """
    folder = RunFolder.open(path)
    missing: dict[str, str] = {}
    lines: list[dict[str, Any]] = []
    recipe = None
    try:
        recipe = Recipe.read(folder.recipe_path)
    except RecipeError as error:
        missing["recipe"] = str(error)
    try:
        lines = MetricsFile(folder.metrics_path).read()
    except RunError as error:
        missing["steps"] = str(error)

    def record(kind: type[R], name: str) -> R | None:
        file = path / RECORD_FILES[name]
        if not file.exists():
            missing[name] = (reasons or {}).get(name, "it was not measured")
            return None
        try:
            return kind.load(file)
        except RunError as error:
            missing[name] = str(error)
            return None

    return RunFiles(
        path=path,
        recipe=recipe,
        origin=_values(path / "origin.json", "origin", missing),
        schedule=_values(path / "schedule.json", "schedule", missing),
        outcome=_values(folder.outcome_path, "outcome", missing),
        steps=[line for line in lines if line.get("event") == "step"],
        evaluations=[line for line in lines if line.get("event") == "evaluation"],
        diagnosis=record(Diagnosis, "diagnosis"),
        history=record(GradientHistory, "history"),
        horizons=record(HorizonsRecord, "horizons"),
        spectrum=record(SpectrumRecord, "spectrum"),
        text=record(TextRecord, "text"),
        treatment=record(Treatment, "treatment"),
        missing=missing,
    )


def _values(path: Path, name: str, missing: dict[str, str]) -> dict[str, Any]:
    if not path.exists():
        missing[name] = f"there is no {path.name}"
        return {}
    try:
        return dict(read_json(path))
    except (RunError, TypeError, ValueError) as error:
        missing[name] = str(error)
        return {}
