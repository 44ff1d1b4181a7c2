"""The page about one run, from top to bottom."""

from __future__ import annotations

from html import escape

from throughtime.measurement.loss_spikes import loss_spikes
from throughtime.reporting.gradient import gradient_heat_map, layer_heat_maps
from throughtime.reporting.horizons import horizon_bars
from throughtime.reporting.origin import origin_html
from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Picture, capital
from throughtime.reporting.run_files import RunFiles
from throughtime.reporting.spectrum import (
    exponents_picture,
    saturation_map,
    saturation_picture,
    singular_values_picture,
)
from throughtime.reporting.training import losses_picture, norms_picture, rate_picture, updates_picture
from throughtime.reporting.treatment_page import treatment_picture
from throughtime.reporting.verdict import missing, verdict
from throughtime.reporting.words import perplexity_pictures, predictors_table, shaded_sentences

__all__ = ["run_page"]


def run_page(files: RunFiles) -> str:
    """The text of an HTML file, whatever of the run is there."""
    sections = [_verdict(files), _gradient(files), _training(files), _spectrum(files), _words(files)]
    sections += [*_trial(files), _origin(files)]
    return page(f"Run {files.name}", sections, subtitle=_subtitle(files))


def _subtitle(files: RunFiles) -> str:
    recipe = files.recipe
    if recipe is None:
        return ""
    plan = recipe.plan
    kind = plan.cell if recipe.model == "recurrent" else f"{recipe.model} model"
    layers = f"{plan.num_layers} layers of {plan.hidden_size}" if plan.num_layers > 1 else f"{plan.hidden_size} units"
    test = files.outcome.get("test") or {}
    asked = {"next": "next word", "blank": "blank"}
    scores = [f"test perplexity {found['perplexity']:,.1f} ({asked[head]})" for head, found in test.items()]
    return ", ".join([f"{kind} of {layers}", *scores])


def _verdict(files: RunFiles) -> Section:
    told = files.steps_of_memory
    window = None if files.recipe is None or files.recipe.model == "window" else files.recipe.plan.window
    known = any(value is not None for value in told.values())
    pictures = [horizon_bars(told, window=window, censored=files.censored)] if known else []
    if files.diagnosis is not None:
        text = verdict(files.diagnosis)
    else:
        reason = missing(capital(files.missing["diagnosis"]) + ".")
        text = f'<div class="card"><p class="verdict unknown">No diagnosis</p>{reason}</div>'
    return Section("Verdict", text, pictures)


def _gradient(files: RunFiles) -> Section:
    title = "Gradient through time"
    if files.history is None:
        return Section(title, missing(f"There is no picture of it: {files.missing['history']}."))
    told = files.steps_of_memory
    first = gradient_heat_map(files.history, need=told.get("need"), use=told.get("use"))
    notes = missing(*files.history.notes)
    return Section(title, notes, [first, *layer_heat_maps(files.history, need=told.get("need"))])


def _training(files: RunFiles) -> Section:
    if not files.steps:
        reason = files.missing.get("steps", "the run made no update that it could log")
        return Section("Training", missing(f"There is nothing to draw: {reason}."))
    spikes = loss_spikes(files.steps)
    head = files.evaluations[0]["head"] if files.evaluations else None
    pictures: list[Picture | None] = [
        losses_picture(files.steps, [line for line in files.evaluations if line["head"] == head], spikes),
        norms_picture(files.steps),
        rate_picture(files.steps),
        None if files.history is None else updates_picture(files.history),
    ]
    return Section("Training", pictures=[picture for picture in pictures if picture is not None])


def _spectrum(files: RunFiles) -> Section:
    record = files.spectrum
    if record is None:
        return Section("Spectrum", missing(f"There is no picture of it: {files.missing['spectrum']}."))
    drawn = (exponents_picture, singular_values_picture, saturation_picture, saturation_map)
    pictures = [draw(record) for draw in drawn]
    unknown = [f"{name}: cannot tell, since {layer.cannot_tell}" for name, layer in record.layers.items()]
    told = [text for text, layer in zip(unknown, record.layers.values(), strict=True) if layer.cannot_tell]
    return Section("Spectrum", missing(*told), [picture for picture in pictures if picture is not None])


def _words(files: RunFiles) -> Section:
    record = files.text
    if record is None:
        return Section("Words", missing(f"There is nothing to show: {files.missing['text']}."))
    return Section(
        "Words", predictors_table(record), perplexity_pictures(record), after=shaded_sentences(record.blanks)
    )


def _trial(files: RunFiles) -> list[Section]:
    """What was tried beside it; without a trial, nothing, or where it is ill what would make one."""
    record = files.treatment
    if record is not None:
        picture = treatment_picture(record)
        verdict_ = f'<div class="card"><p>{escape(capital(record.verdict))}.</p></div>'
        return [Section("Trial", verdict_, [picture] if picture else [])]
    if files.diagnosis is None or files.diagnosis.healthy:
        return []
    return [Section("Trial", missing(f"There is none: {files.missing['treatment']}."))]


def _origin(files: RunFiles) -> Section:
    return Section("How it was made", origin_html(files))
