"""`report`: what a run has left behind, and what can still be measured of it, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from throughtime.errors import InputError, RecipeError, RunError
from throughtime.measurement import SpectrumRecord, spectrum
from throughtime.recipe import Recipe
from throughtime.storage import Record, RunFolder, write_text
from throughtime.storage.atomic import make_folder
from throughtime.workflow.horizons import stretches
from throughtime.workflow.text_report import measure_text

__all__ = ["report"]

PAGE = "report.html"
_STEPS, _SEQUENCES, _EXPONENTS = 64, 2, 8


def report(run: str | Path, *, out: str | Path | None = None, measure: bool = True) -> Path:
    """Draw a run: its verdict, the gradient through time while it trained, its losses, and how it was made.

    What has not been measured yet is measured now, and kept in the run. A run that failed, was killed or has no
    recurrence gets a page too, which says what is missing.

    Args:
        run: the folder of a run.
        out: the HTML file; `report.html` in the folder, if not given.
        measure: whether to measure what is not there; else only what was saved is drawn.

    Returns:
        The file.

    Raises:
        RunError: if there is no run, or the file cannot be written.
    """
    from throughtime.reporting import RECORD_FILES, read_run, run_page

    folder = Path(run)
    reasons: dict[str, str] = {}
    RunFolder.open(folder)
    for name, make in _MAKERS.items() if measure else ():
        if not (folder / RECORD_FILES[name]).exists():
            try:
                record = make(folder)
                make_folder((folder / RECORD_FILES[name]).parent)
                record.save(folder / RECORD_FILES[name])
            except (InputError, RecipeError, RunError) as error:
                reasons[name] = str(error)
    reasons["diagnosis"] = f"there is none yet: throughtime diagnose {folder} makes it, which may take minutes"
    reasons |= _why_no_history(folder)
    path = folder / PAGE if out is None else Path(out)
    write_text(path, run_page(read_run(folder, reasons)))
    return path


def _spectrum(folder: Path) -> SpectrumRecord:
    """Of a few stretches of the validation text."""
    model, ids, _ = stretches(folder, _STEPS, _SEQUENCES, "auto", 0)
    return spectrum(model, ids, _EXPONENTS, num_sequences=_SEQUENCES)


_MAKERS: Mapping[str, Callable[[Path], Record]] = {"spectrum": _spectrum, "text": measure_text}
"""What is measured by drawing a run, in seconds; a diagnosis, which may take minutes, is not."""


def _why_no_history(folder: Path) -> dict[str, str]:
    try:
        model = Recipe.read(folder / "recipe.toml").model
    except RecipeError:
        return {}
    if model == "window":
        return {"history": "a window model has no recurrence, so there is no gradient through time"}
    if model == "cloze":
        return {"history": "a two-sided model is not watched while it trains"}
    return {"history": "the run was made without one, or ended before its first checkpoint"}
