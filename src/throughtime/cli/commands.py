"""One function a command. What is heavy is imported when a command runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from throughtime.cli import options
from throughtime.cli.options import BudgetOptions, ComputeOptions, MachineOptions, PlanOptions, TextOptions, given
from throughtime.errors import InputError

__all__ = [
    "compare",
    "diagnose",
    "doctor",
    "evaluate",
    "export",
    "horizons",
    "measure",
    "predict",
    "report",
    "score",
    "train",
    "treat",
]

Json = Annotated[bool, Parameter(negative=(), help="Print JSON.")]
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
        cell: The recurrent cell: "elman", "gru" or "lstm".
        out: The folder of the run; runs/NAME if not given.
        resume: Go on with the run in --out.
        diagnose: End with a diagnosis, for a recurrent model.
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
    found = examined_after_training(run) if diagnose else None
    if json:
        _print(run.to_json() | ({} if found is None else found.parts()))
    else:
        show.run(run)
        if found is not None:
            show.findings(found.diagnosis, run.path)
            show.prescription(found.prescription)


def predict(
    run: Path,
    sentence: str,
    *,
    top: Top = 5,
    ngram: float = 0.0,
    cache: float = 0.0,
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
        why: Show which words the likeliest guess depends on: shaded by gradient times input, beside what leaving each
            word out changes.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import explain, load, predict_sentence

    if why and (ngram or cache):
        raise InputError("--why explains the network by itself: leave out --ngram and --cache")
    predictor = load(run, **_machine(compute))
    prediction = predict_sentence(predictor, sentence, top=top, ngram=ngram, cache=cache)
    explained = explain(predictor, sentence) if why else None
    if json:
        _print(prediction.to_json() | ({} if explained is None else {"why": explained.to_json()}))
        return
    show.prediction(prediction)
    if explained is not None:
        show.explanation(explained)


def evaluate(
    run: Path,
    *texts: str,
    ngram: Annotated[bool, Parameter(negative=())] = False,
    cache: Annotated[bool, Parameter(negative=())] = False,
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
        json: Print JSON.
        encoding: Of the bytes, where it is not the run's.
        errors: "strict" or "replace", where it is not the run's.
        max_bytes: The most that a compressed file may unpack to.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import evaluate as evaluate_run

    reading = {"encoding": encoding, "errors": errors, "max_bytes": max_bytes}
    choices: dict[str, Any] = {name: value for name, value in reading.items() if value is not None}
    found = evaluate_run(run, *options.named(texts), ngram=ngram, cache=cache, **_machine(compute), **choices)
    _print(found.to_json()) if json else show.evaluation(found)


def compare(
    *texts: str,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    out: Path | None = None,
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
        json: Print JSON.
        budget: How long for each; 2 minutes if not given.
        plan: The networks.
        text: How the text is read.
        compute: The machine.
    """
    from throughtime.cli import progress, show
    from throughtime.workflow import compare as compare_runs

    with progress.shown() as observer:
        found = compare_runs(
            *options.named(texts), only=only, out=out, observers=[observer], **given(budget, plan, text, compute)
        )
    _print(found.to_json()) if json else show.comparison(found)


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

    found = load(run, **_machine(compute)).score(sentence)
    _print(found.to_json()) if json else show.score(found)


def measure(
    run: Path,
    *,
    steps: int | None = None,
    sequences: int = 8,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """How far the gradient reaches through time in a run's network, on its validation text.

    Args:
        run: The folder of a run with a recurrent model.
        steps: Words in a stretch of text; 200, or as many as there are, unless given.
        sequences: How many stretches.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import measure_run

    found = measure_run(run, steps=steps, sequences=sequences, **_machine(compute))
    _print(found.to_json()) if json else show.record(found)


def horizons(
    run: Path,
    *,
    steps: int | None = None,
    sequences: int = 64,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """What the text needs, how far the gradient reaches and how much the network uses, in steps.

    Args:
        run: The folder of a run with a recurrent model.
        steps: Words in a stretch of text; 200, or as many as there are, unless given.
        sequences: How many stretches.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import horizons_of_run

    found = horizons_of_run(run, steps=steps, sequences=sequences, **_machine(compute))
    _print(found.to_json()) if json else show.record(found)


def diagnose(
    what: str,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    ignore: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> int:
    """What is wrong with a network that does not learn, and what to do first.

    The exit code is 0 if it is healthy, 1 if not, 2 if that is unknown.

    Args:
        what: The folder of a run, package.module:factory, or a training script (.py), which is run and watched.
        arguments: Of the script.
        ignore: A code that is not wanted; may be given several times.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import Examined, diagnose_script, examine_factory, examine_run, is_factory

    chosen: dict[str, Any] = {"ignore": ignore or ()}
    if compute is not None and compute.seed is not None:
        chosen["seed"] = compute.seed
    if what.endswith(".py"):
        of_script = diagnose_script(Path(what), arguments, **chosen)
        code = of_script.exit_code
        if of_script.diagnosis is None or of_script.prescription is None:
            return code
        found = Examined(of_script.diagnosis, of_script.prescription)
    elif arguments:
        raise InputError(f"only a script (.py) takes arguments, and {what} is none: leave out {' '.join(arguments)}")
    else:
        found = (
            examine_factory(what, **chosen) if is_factory(what) else examine_run(what, **chosen, **_machine(compute))
        )
        code = 0 if found.diagnosis.healthy else 1
    if json:
        _print(found.to_json())
    else:
        show.record(found.diagnosis)
        show.prescription(found.prescription)
    return code


def report(
    *what: Path,
    out: Path | None = None,
    open: Annotated[bool, Parameter(negative=())] = False,  # noqa: A002 - the name of an option
    measure: bool = True,
) -> None:
    """Draw a run as one HTML file: the verdict, the gradient through time, the losses, and how it was made.

    Args:
        what: The folder of a run, several of them, the folder of a comparison, or the file of a record.
        out: The HTML file; report.html in the folder if not given.
        open: Show it in the browser.
        measure: Measure what has not been measured yet, and keep it in the run.
    """
    from throughtime.cli import show
    from throughtime.workflow import report as report_run

    path = report_run(*what, out=out, measure=measure)
    show.page(path, opens=open)


def export(run: Path, target: Path, *, json: Json = False) -> None:
    """Write a run's network for others, and compare what was written with the run.

    Args:
        run: The folder of a run.
        target: A new file that ends in .onnx (one step, states as inputs and outputs), or a new folder (safetensors).
        json: Print JSON.
    """
    from throughtime.cli import show
    from throughtime.workflow import export as export_run

    found = export_run(run, target)
    _print(found.to_json()) if json else show.exported(found)


def treat(
    what: str,
    *,
    seeds: int = 5,
    budget_seconds: float | None = None,
    steps: int | None = None,
    remedy: Annotated[list[str] | None, Parameter(negative=())] = None,
    jobs: int = 0,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Try what may treat a network that does not learn, and prove on fresh seeds what cures it.

    The exit code is 0 if something does, or if there is nothing to treat, 1 if nothing is proven. The same command goes
    on where one that was interrupted was.

    Args:
        what: The folder of a run, or package.module:factory that returns a patient.
        seeds: Seeds that treatments are selected with; five at least.
        budget_seconds: Time for all of it, by the measured time of a step.
        steps: Updates of each training of a run; as many as it had if not given.
        remedy: A remedy to be tried in place of those prescribed; may be given several times.
        jobs: Processes; 0 for one a core.
        out: The folder of the trial; RUN/treatment, or runs/treat-FACTORY, if not given.
        json: Print JSON.
    """
    from throughtime.cli import show
    from throughtime.workflow import is_factory, treat_factory, treat_run

    chosen: dict[str, Any] = {"seeds": seeds, "budget_seconds": budget_seconds, "remedies": remedy, "jobs": jobs}
    folder = out or (Path("runs") / f"treat-{what.replace(':', '-')}" if is_factory(what) else Path(what) / "treatment")

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        if is_factory(what):
            if steps is not None:
                raise InputError("steps are those of a run: a patient of your own has its own")
            found = treat_factory(what, out=folder, progress=tell, **chosen)
        else:
            found = treat_run(what, steps=steps, out=folder, progress=tell, **chosen)
    except KeyboardInterrupt:
        tell(f"what is done is in {folder}; the same command goes on from there")
        raise
    if json:
        _print(found.to_json())
    else:
        show.treatment(found, folder)
    return 0 if found.proven or found.nothing_to_treat else 1


def doctor(*, json: Json = False, compute: MachineOptions | None = None) -> None:
    """Versions, threads, devices, and which kernels are in use and why.

    Args:
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import doctor as examine

    found = examine(**_machine(compute))
    _print(found) if json else show.doctor(found)


def _machine(compute: MachineOptions | None) -> dict[str, Any]:
    """Device and threads; a trained run has no random number left to seed."""
    return {name: value for name, value in given(compute).items() if name in ("device", "threads")}


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")
