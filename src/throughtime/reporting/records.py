"""Which pictures a record has, and which type of record a file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from throughtime.diagnosis import Diagnosis
from throughtime.errors import InputError, RunError
from throughtime.measurement import (
    GradientHistory,
    GradientRecord,
    HorizonsRecord,
    NeedRecord,
    SpectrumRecord,
    UseRecord,
    WatchRecord,
)
from throughtime.reporting.arms import arm_heat_maps, arm_losses
from throughtime.reporting.gradient import gradient_curves, gradient_heat_map, layer_heat_maps
from throughtime.reporting.horizons import horizons_picture, measured_horizons
from throughtime.reporting.lags import need_picture, use_picture
from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Picture, Pictures, capital
from throughtime.reporting.spectrum import (
    exponents_picture,
    saturation_map,
    saturation_picture,
    singular_values_picture,
)
from throughtime.reporting.text_record import TextRecord
from throughtime.reporting.training import losses_picture, norms_picture, rate_picture, updates_picture
from throughtime.reporting.treatment_page import treatment_picture
from throughtime.reporting.verdict import verdict
from throughtime.reporting.words import perplexity_pictures, predictors_table
from throughtime.storage import Record, read_json
from throughtime.trial import Treatment

__all__ = ["RECORDS", "draw", "load_record", "record_page"]


def draw(record: Record) -> Pictures:
    """All pictures of a record.

    Raises:
        InputError: if there is nothing in it to draw.
    """
    draws = _DRAWN.get(type(record))
    if draws is None:
        raise InputError(f"there is no picture of a {record.record_kind} record: print it")
    found = tuple(picture for picture in draws(record) if picture is not None)
    if not found:
        raise InputError(f"there is nothing to draw in this {record.record_kind} record: print it")
    return Pictures(record.record_kind.replace("-", " ").capitalize(), found)


def load_record(path: str | Path) -> Record:
    """A record of any type.

    Raises:
        RunError: if the file cannot be read, or holds none that is known.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except RunError as error:
        if path.suffix == ".json" or not path.is_file():
            raise
        raise RunError(f"{path} holds no record: name the folder of a run, or the .json file of a record") from error
    kind = content.get("kind") if isinstance(content, dict) else None
    known = {record.record_kind: record for record in RECORDS}
    if kind not in known:
        raise RunError(f"{path} holds {f'a {kind} record' if kind else 'no record'}: expected {', '.join(known)}")
    return known[kind].load(path)


def record_page(record: Record, *, subtitle: str = "") -> str:
    """The text of an HTML file about one record: its pictures, and ahead of them what they do not say.

    Args:
        record: of any type that can be drawn.
        subtitle: where it comes from.

    Raises:
        InputError: if there is nothing in it to draw.
    """
    pictures = draw(record)
    words = _WORDS.get(type(record))
    text = "" if words is None else words(record)
    return page(pictures.title, [Section("", text, pictures.items)], subtitle=subtitle)


def _history(history: GradientHistory) -> Iterable[Picture | None]:
    return [gradient_heat_map(history), *layer_heat_maps(history), updates_picture(history)]


def _spectrum(record: SpectrumRecord) -> Iterable[Picture | None]:
    drawn = (exponents_picture, singular_values_picture, saturation_picture, saturation_map)
    return [draw_(record) for draw_ in drawn]


def _diagnosis(record: Diagnosis) -> Iterable[Picture | None]:
    return [measured_horizons(record)]


def _watch(record: WatchRecord) -> Iterable[Picture | None]:
    """The heat map of its probes, the losses of all steps, and the norms of those that were sampled."""
    lines: list[dict[str, Any]] = [
        {("clipped_gradient_norm" if name == "clipped_norm" else name): value for name, value in sample.items()}
        for sample in record.samples
    ]
    every = record.losses_every
    losses: list[dict[str, Any]] = [
        {"step": min(place * every, record.num_steps), "loss_nats": loss}
        for place, loss in enumerate(record.losses, start=1)
    ]
    history = GradientHistory.of(record.records) if record.probes else None
    heat_maps = [] if history is None else [gradient_heat_map(history), *layer_heat_maps(history)]
    return [*heat_maps, losses_picture(losses, [], words=False), norms_picture(lines), rate_picture(lines)]


def _lines(text: str) -> str:
    return f'<div class="card">{"".join(f"<p>{escape(capital(line))}</p>" for line in text.splitlines())}</div>'


def _treatment(record: Treatment) -> Iterable[Picture | None]:
    """The seeds of every arm, a training of each, and what the patient needs, reaches and uses."""
    return [treatment_picture(record), *arm_heat_maps(record), arm_losses(record), measured_horizons(record)]


_DRAWN: dict[type[Record], Callable[[Any], Iterable[Picture | None]]] = {
    GradientHistory: _history,
    GradientRecord: lambda record: [gradient_curves(record)],
    HorizonsRecord: lambda record: [horizons_picture(record)],
    NeedRecord: lambda record: [need_picture(record)],
    UseRecord: lambda record: [use_picture(record)],
    SpectrumRecord: _spectrum,
    WatchRecord: _watch,
    Diagnosis: _diagnosis,
    TextRecord: perplexity_pictures,
    Treatment: _treatment,
}

_WORDS: dict[type[Record], Callable[[Any], str]] = {
    Diagnosis: verdict,
    TextRecord: predictors_table,
    WatchRecord: lambda record: _lines(str(record)),
}

RECORDS = tuple(_DRAWN)
"""Every type of record that can be drawn."""
