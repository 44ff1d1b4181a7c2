"""One function a command. What is heavy is imported when a command runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from throughtime.cli import options
from throughtime.cli.options import (
    BudgetOptions,
    ComputeOptions,
    Json,
    MachineOptions,
    PlanOptions,
    TextOptions,
    given,
    machine,
)
from throughtime.errors import InputError, RecipeError

__all__ = ["compare", "doctor", "evaluate", "export", "predict", "report", "score", "train"]

Top = Annotated[int, Parameter(help="How many words to show.")]


def train(
    *texts: str,
    model: str | None = None,
    cell: str | None = None,
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    diagnose: bool = True,
    json: Json = False,
    budget: BudgetOptions | None = None,
    plan: PlanOptions | None = None,
    text: TextOptions | None = None,
    compute: ComputeOptions | None = None,
) -> None:
    """Train a word predictor on a text, leave a run folder behind, and say what is wrong with it, if anything.

    Args:
        texts: Files, folders, patterns or "-" for standard input; none for the built-in corpus.
        model: "recurrent", "window" or "cloze" (fills blanks).
        cell: The recurrent cell, such as "lstm", "gru" or "lru"; docs/cells.md has them all.
        out: The folder of the run; runs/NAME if not given.
        resume: Go on with the run in --out.
        diagnose: End with a diagnosis, but of a window model, which has no recurrence.
        json: Print JSON.
        budget: How long.
        plan: The network.
        text: How the text is read.
        compute: The machine.
    """
    from throughtime.cli import progress, show
    from throughtime.workflow import examined_after_training
    from throughtime.workflow import train as train_run

    named = {"model": model, "cell": cell}
    choices = {name: value for name, value in named.items() if value is not None} | given(budget, plan, text, compute)
    with progress.shown() as observer:
        run = train_run(*options.named(texts), out=out, resume=resume, observers=[observer], **choices)
    found, why_not = None, ""
    try:
        found = examined_after_training(run) if diagnose else None
    except (InputError, RecipeError) as error:
        why_not = str(error)
    if json:
        show.as_json(run.to_json() | ({} if found is None else found.parts()))
        return
    show.run(run)
    if found is not None:
        show.findings(found.diagnosis, run.path)
        show.prescription(found.prescription)
    elif why_not:
        show.no_diagnosis(why_not)


def predict(
    run: Path,
    sentence: str,
    *,
    top: Top = 5,
    ngram: float = 0.0,
    cache: float = 0.0,
    continuous_cache: float = 0.0,
    why: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """Guess the blank ___ in a sentence; without one, the next word.

    Args:
        run: The folder of a run.
        sentence: The words, with ___ for each blank.
        top: How many words to show.
        ngram: Weight of the 5-gram model of the training text, for the next word.
        cache: Weight of a cache of the words in the sentence, for the next word.
        continuous_cache: Weight of a cache that asks in which contexts the words in the sentence stood.
        why: Show which words the likeliest guess depends on: shaded by gradient times input, beside what leaving each
            word out changes.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import explain, load, predict_sentence

    mixed = {"ngram": ngram, "cache": cache, "continuous_cache": continuous_cache}
    if why and any(mixed.values()):
        raise InputError("--why explains the network by itself: leave out --ngram and the caches")
    predictor = load(run, **machine(compute, "device", "threads"))
    prediction = predict_sentence(predictor, sentence, top=top, **mixed)
    explained = explain(predictor, sentence) if why else None
    if json:
        show.as_json(prediction.to_json() | ({} if explained is None else {"why": explained.to_json()}))
        return
    show.prediction(prediction)
    if explained is not None:
        show.explanation(explained)


def evaluate(
    run: Path,
    *texts: str,
    ngram: Annotated[bool, Parameter(negative=())] = False,
    cache: Annotated[bool, Parameter(negative=())] = False,
    continuous_cache: Annotated[bool, Parameter(negative=())] = False,
    dynamic: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
    encoding: str | None = None,
    errors: str | None = None,
    max_bytes: int | None = None,
    compute: MachineOptions | None = None,
) -> None:
    """Score a text with a run: perplexity, top-1 and top-5, share of unknown words.

    Args:
        run: The folder of a run.
        texts: Files, folders, patterns or "-"; none for the run's own test text.
        ngram: Mix in the 5-gram model of the training text, its weight fitted on the validation text.
        cache: Mix in a cache of the words just seen, its weight fitted on the validation text.
        continuous_cache: Mix in a cache that asks in which contexts the words just seen stood, fitted likewise.
        dynamic: Let the network go on learning from the words that it has predicted (dynamic evaluation), which takes
            its time: some 500 words a second. Beside other busy programs --threads 1 is faster.
        json: Print JSON.
        encoding: Of the bytes, where it is not the run's.
        errors: "strict" or "replace", where it is not the run's.
        max_bytes: The most that a compressed file may unpack to.
        compute: The machine.
    """
    from throughtime.cli import progress, show
    from throughtime.workflow import evaluate as evaluate_run

    reading = {"encoding": encoding, "errors": errors, "max_bytes": max_bytes}
    choices: dict[str, Any] = {name: value for name, value in reading.items() if value is not None}
    choices |= machine(compute, "device", "threads")
    choices |= {"ngram": ngram, "cache": cache, "continuous_cache": continuous_cache, "dynamic": dynamic}
    with progress.learning_on() as told:
        found = evaluate_run(run, *options.named(texts), progress=told if dynamic else None, **choices)
    show.as_json(found.to_json()) if json else show.evaluation(found)


def compare(
    *texts: str,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    out: Path | None = None,
    diagnose: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
    budget: BudgetOptions | None = None,
    plan: PlanOptions | None = None,
    text: TextOptions | None = None,
    compute: ComputeOptions | None = None,
) -> None:
    """Train a window model, every recurrent cell and a cloze model on one text, beside the 5-gram, in one table.

    Args:
        texts: Files, folders, patterns or "-"; none for the built-in corpus.
        only: Some of the predictors: "window", "cloze", or the name of a cell.
        out: A new folder for all runs; runs/compare if not given.
        diagnose: Diagnose each network that has a recurrence after its training, which takes its time beside that.
        json: Print JSON.
        budget: How long for each; 2 minutes if not given.
        plan: The networks.
        text: How the text is read.
        compute: The machine.
    """
    from throughtime.cli import progress, show
    from throughtime.workflow import compare as compare_runs

    choices = given(budget, plan, text, compute)
    with progress.shown() as observer:
        found = compare_runs(
            *options.named(texts), only=only, out=out, observers=[observer], diagnose=diagnose, **choices
        )
    show.as_json(found.to_json()) if json else show.comparison(found)


def score(run: Path, sentence: str, *, json: Json = False, compute: MachineOptions | None = None) -> None:
    """The log probability of a sentence, word by word.

    Args:
        run: The folder of a run.
        sentence: The words.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import load

    found = load(run, **machine(compute, "device", "threads")).score(sentence)
    show.as_json(found.to_json()) if json else show.score(found)


def report(
    *what: Path,
    out: Path | None = None,
    open: Annotated[bool, Parameter(negative=())] = False,  # noqa: A002 - the name of an option
    measure: bool = True,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """Draw a run as one HTML file: the verdict, the gradient through time, the losses, and how it was made.

    Args:
        what: The folder of a run, several of them, a folder that compare, treat or a watch made, or the file of a
            record.
        out: The HTML file; report.html in the folder if not given.
        open: Show it in the browser.
        measure: Measure what has not been measured yet, and keep it in the run.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import report as report_run

    path = report_run(
        *what,
        out=out,
        measure=measure,
        progress=lambda line: sys.stderr.write(f"{line}\n"),
        **machine(compute, "seed", "device", "threads"),
    )
    show.page(path, opens=open, json=json)


def export(run: Path, target: Path, *, json: Json = False, compute: MachineOptions | None = None) -> None:
    """Write a run's network for others, and compare what was written with the run.

    Args:
        run: The folder of a run.
        target: A new file that ends in .onnx (one step, states as inputs and outputs), or a new folder (safetensors).
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import export as export_run

    found = export_run(run, target, **machine(compute, "threads"))
    show.as_json(found.to_json()) if json else show.exported(found)


def doctor(*, json: Json = False, compute: MachineOptions | None = None) -> None:
    """Versions, threads, devices, and which kernels are in use and why.

    Args:
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import doctor as examine

    found = examine(**machine(compute, "device", "threads"))
    show.as_json(found) if json else show.doctor(found)
