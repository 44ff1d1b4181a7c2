"""`report`: what a run has left behind, and what can still be measured of it, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from throughtime.errors import InputError, RecipeError, RunError
from throughtime.measurement import SpectrumRecord, spectrum
from throughtime.recipe import Recipe
from throughtime.storage import Record, RunFolder, read_json, write_text
from throughtime.storage.atomic import make_folder
from throughtime.trial import Treatment
from throughtime.workflow.horizons import recurrence_and_words
from throughtime.workflow.origin import ORIGIN_FILE
from throughtime.workflow.text_report import measure_text

__all__ = ["PAGE", "report"]

PAGE = "report.html"
COMPARISON_FILE = "comparison.json"
_RECORDS = ("treatment.json", "watch.json")
"""What a folder that is no run may hold: what `treat` and a watch save."""
_STEPS, _SEQUENCES, _EXPONENTS = 64, 2, 8


def report(
    *what: str | Path,
    out: str | Path | None = None,
    measure: bool = True,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[str], object] | None = None,
) -> Path:
    """Draw a run: its verdict, the gradient through time while it trained, its losses, and how it was made.

    What has not been measured yet and takes seconds is measured now, and kept in the run. A run that failed, was killed
    or has no recurrence gets a page too, which says what is missing. Several runs, or the folder of a comparison, are
    drawn side by side; so are single records.

    Args:
        what: the folder of a run, several of them, a folder that `compare`, `treat` or a watch made, or the file of a
            record.
        out: the HTML file; `report.html` in the folder, or beside the record under its name, if not given.
        measure: whether to measure what is not there; else only what was saved is drawn.
        seed: of what is drawn for that.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.
        progress: is told what is measured, a line each.

    Returns:
        The file.

    Raises:
        RunError: if there is no run or record, or the file cannot be written.
        InputError: if there is nothing to draw in a record.
    """
    from throughtime.reporting import load_record, read_run, record_page, run_page, several_page, treatment_page

    paths = [Path(each) for each in what]
    if not paths:
        raise InputError("what is to be drawn? name the folder of a run, or the file of a record")
    first = paths[0] if len(paths) > 1 else _record_in(paths[0])
    if first.is_file() and len(paths) == 1:
        target = first.with_suffix(".html") if out is None else Path(out)
        record = load_record(first)
        if isinstance(record, Treatment):
            origin = first.with_name(ORIGIN_FILE)
            html = treatment_page(_title(first), record, read_json(origin) if origin.is_file() else None)
        else:
            html = record_page(record, subtitle=str(first))
        write_text(target, html)
        return target
    target = first / PAGE if out is None else Path(out)
    if len(paths) == 1 and not (first / COMPARISON_FILE).is_file():
        machine: dict[str, Any] = {"seed": seed, "device": device, "threads": threads}
        reasons = _completed(first, measure=measure, progress=progress, machine=machine)
        write_text(target, run_page(read_run(first, reasons)))
        return target
    comparison = read_json(first / COMPARISON_FILE) if (first / COMPARISON_FILE).is_file() else None
    if comparison is not None:
        paths = [first / row["name"] for row in comparison["rows"] if (first / row["name"]).is_dir()]
    runs = [read_run(path, _why_no_history(path) | {"diagnosis": _why_no_diagnosis(path)}) for path in paths]
    title = f"Comparison: {first.resolve().name}" if comparison is not None else "Several runs"
    write_text(target, several_page(title, runs, comparison))
    return target


def _record_in(path: Path) -> Path:
    """The record that a folder holds in place of a run, if so; else the path itself."""
    if not path.is_dir() or (path / "recipe.toml").exists():
        return path
    return next((path / name for name in _RECORDS if (path / name).is_file()), path)


def _completed(
    folder: Path, *, measure: bool, progress: Callable[[str], object] | None, machine: Mapping[str, Any]
) -> dict[str, str]:
    """Measure what is not there; for what cannot be had the reasons, by name."""
    from throughtime.reporting import RECORD_FILES

    RunFolder.open(folder)
    reasons: dict[str, str] = {}
    for name, make in _MAKERS.items() if measure else ():
        path = folder / RECORD_FILES[name]
        if not path.exists():
            if progress is not None:
                progress(f"measuring the {name}, once; it is kept in {path}")
            try:
                record = make(folder, **machine)
                make_folder(path.parent)
                record.save(path)
            except (InputError, RecipeError, RunError) as error:
                reasons[name] = str(error)
    reasons["treatment"] = f"throughtime treat {folder} tries what was prescribed"
    return reasons | {"diagnosis": _why_no_diagnosis(folder)} | _why_no_history(folder)


def _title(path: Path) -> str:
    """Of the page about a trial: by the run in whose folder it lies, or else by the folder itself."""
    folder = path.resolve().parent
    return f"Treatment of {folder.parent.name}" if folder.name == "treatment" else f"Treatment {folder.name}"


def _spectrum(folder: Path, *, seed: int, device: str, threads: int) -> SpectrumRecord:
    """Of a few stretches of the validation text, without what no picture shows and takes a third of the time."""
    model, ids = recurrence_and_words(folder, _STEPS, _SEQUENCES, device, threads)
    return spectrum(model, ids, _EXPONENTS, num_sequences=_SEQUENCES, singular_values="steps", seed=seed)


_MAKERS: Mapping[str, Callable[..., Record]] = {"spectrum": _spectrum, "text": measure_text}
"""What is measured by drawing a run, in seconds; a diagnosis, which takes longer, is not."""


def _why_no_history(folder: Path) -> dict[str, str]:
    if _model_of(folder) == "window":
        return {"history": "a window model has no recurrence, so there is no gradient through time"}
    return {"history": "the run was made without one, or ended before its first checkpoint"}


def _why_no_diagnosis(folder: Path) -> str:
    """What would make one, where that can be."""
    if _model_of(folder) == "window":
        return "a window model has no recurrence, which a diagnosis of a run asks for"
    compared = (folder.parent / COMPARISON_FILE).is_file()
    why = "a comparison makes one only where it is told --diagnose" if compared else "there is none yet"
    return f"{why}: throughtime diagnose {folder} makes it"


def _model_of(folder: Path) -> str | None:
    try:
        return Recipe.read(folder / "recipe.toml").model
    except RecipeError:
        return None
