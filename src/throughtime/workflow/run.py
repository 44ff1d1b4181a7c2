"""From a text to a run: prepare the corpus, train, evaluate the best weights, and leave a folder behind."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from throughtime.errors import InputError, RecipeError, RunError
from throughtime.model import Head
from throughtime.recipe import Recipe, differences
from throughtime.storage import RunFolder, RunLock, new_folder, read_json, write_json, write_text
from throughtime.text import Corpus, open_corpus, prepare
from throughtime.text.batches import Streams
from throughtime.training import Evaluation, Observer, Outcome, Processes, evaluate, settle
from throughtime.training import train as train_model
from throughtime.workflow.gradient_watch import GradientWatch
from throughtime.workflow.origin import ORIGIN_FILE, origin
from throughtime.workflow.predictor import Predictor, load

__all__ = ["Run", "new_or_nothing", "peak_memory_bytes", "train"]

FINAL_WORDS = 500_000
"""Words of the validation and of the test text that the last evaluation reads at most."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        outcome: how training ended.
        valid: of the best weights, for each head.
        test: of the best weights, for each head.
        unknown_rate: share of words outside the vocabulary, in each part of the text.
        num_replacements: bytes of the text that could not be decoded, where `errors="replace"` let them pass.
        peak_memory_bytes: the largest resident size of the process.
    """

    path: Path
    outcome: Outcome
    valid: dict[Head, Evaluation]
    test: dict[Head, Evaluation]
    unknown_rate: dict[str, float]
    num_replacements: int
    peak_memory_bytes: int

    def predictor(self) -> Predictor:
        """The network, to ask."""
        return load(self.path)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "path": str(self.path),
            **dataclasses.asdict(self.outcome),
            "valid": {head: evaluation.to_json() for head, evaluation in self.valid.items()},
            "test": {head: evaluation.to_json() for head, evaluation in self.test.items()},
            "unknown_rate": self.unknown_rate,
            "num_replacements": self.num_replacements,
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def train(
    *texts: str | Path,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    corpus: str | Path | None = None,
    **choices: object,
) -> Run:
    """Train a word predictor and leave a run folder behind.

    Args:
        texts: files, folders, patterns or "-"; none for the built-in corpus.
        recipe: all choices; the default recipe if not given.
        out: the folder of the run; `runs/NAME`, NAME from the text, if not given.
        resume: go on with the run in `out`; texts and choices may be left out, and must agree if they are given.
        observers: are told what happens, see `throughtime.training.Event`.
        corpus: the folder of a text that is prepared already, to train several models on one.
        choices: entries of the recipe by name, such as `model="cloze"`, `cell="gru"`, `minutes=5`, `seed=1`.

    Returns:
        The finished run.

    Raises:
        InputError: if the text cannot be used.
        RecipeError: if a choice is unknown or does not fit.
        RunError: if the folder cannot be used.
        Interrupted: after a signal, once a checkpoint stands.
        NonFiniteError: if numbers stop being finite.
    """
    if texts:
        choices["paths"] = tuple(str(text) for text in texts)
    with ExitStack() as stack:
        processes = stack.enter_context(Processes.joined(_device(recipe, choices)))
        if resume:
            run, recipe = _opened(out, recipe, choices)
        else:
            recipe = (recipe or Recipe()).chosen(**choices)
            _refuse_unused(recipe, choices)
            if out is None and processes.size > 1:
                raise RecipeError("several processes have to agree on one folder: name it with --out")
            run = RunFolder(_free_path(recipe) if out is None else Path(out))
        if processes.writes:
            if not resume:
                stack.enter_context(new_or_nothing(run.path))
                RunFolder.create(run.path)
            stack.enter_context(RunLock(run.path))
            if not resume:
                write_text(run.recipe_path, recipe.to_toml())
        settled = settle(recipe.compute)
        prepared = _corpus(run, recipe, processes, given=corpus, compare=resume and bool(texts))
        if processes.writes:
            observers = [GradientWatch(run, prepared, observers)]
        outcome = train_model(run, recipe, prepared, settled, processes, observers=observers)
        return _finished(run, outcome, prepared, evaluates=processes.writes)


@contextmanager
def new_or_nothing(path: Path) -> Iterator[None]:
    """A folder that is new or empty is left as it was found if what happens inside fails before it holds a run.

    What a user got wrong (a text, a choice, a network too large for the memory) then leaves nothing behind; a run that
    has saved a checkpoint stays.
    """
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    fresh = path in absent or (path.is_dir() and not any(path.iterdir()))
    try:
        yield
    except (InputError, RecipeError, RunError, MemoryError, RuntimeError):  # the last: torch, of too little memory
        if fresh and not any(path.rglob("step-*")):
            shutil.rmtree(path, ignore_errors=True)
            if path not in absent:
                path.mkdir()
            with suppress(OSError):
                for folder in absent[1:]:
                    folder.rmdir()
        raise


def _refuse_unused(recipe: Recipe, choices: dict[str, object]) -> None:
    """No choice is ignored in silence."""
    unused = ("cell", "start") if recipe.model == "window" else ("context_words",)
    for name in unused:
        if name in choices:
            raise RecipeError(f"a {recipe.model} model has no use for '{name}': leave it out, or choose another model")


def _device(recipe: Recipe | None, choices: dict[str, object]) -> str:
    wanted = choices.get("device", recipe.compute.device if recipe else "auto")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _free_path(recipe: Recipe) -> Path:
    paths = recipe.text.paths
    stem = Path(paths[0]).name.split(".")[0] if paths else "documentation"
    name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem).strip("-") or "text"
    base = Path("runs") / (name if recipe.model == "recurrent" else f"{name}-{recipe.model}")
    number, path = 1, base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _opened(out: str | Path | None, recipe: Recipe | None, choices: dict[str, object]) -> tuple[RunFolder, Recipe]:
    """The run to go on with, and its own recipe, with which what was given must agree."""
    if out is None:
        raise RunError("which run is to be resumed? name its folder with --out")
    run = RunFolder.open(Path(out))
    stored = Recipe.read(run.recipe_path)
    wanted = (recipe or stored).chosen(**choices)
    found = differences(stored, wanted)
    if found:
        raise RecipeError(f"the run {out} cannot be resumed with another recipe ({'; '.join(found)})")
    return run, stored


def _corpus(run: RunFolder, recipe: Recipe, processes: Processes, *, given: str | Path | None, compare: bool) -> Corpus:
    path = run.path / ORIGIN_FILE
    if processes.writes and not path.exists():
        if given is not None:
            made = open_corpus(Path(given))
            _link(made.folder, run.corpus_path)
        else:
            ready = run.corpus_path.exists()
            made = open_corpus(run.corpus_path) if ready else _prepared(run.corpus_path, recipe, processes)
        write_json(path, {**origin(), "corpus_hash": made.hash})
    elif processes.writes and compare:
        _compare(run, recipe, processes)
    while not path.exists():  # process 0 is at it; a barrier would run into the timeout of the group
        time.sleep(0.1)
    corpus = open_corpus(run.corpus_path)
    recorded = read_json(path)["corpus_hash"]
    if corpus.hash != recorded:
        raise RunError(
            f"{run.corpus_path} has hash {corpus.hash[:12]}, and the run began with {recorded[:12]}: start anew"
        )
    return corpus


def _prepared(folder: Path, recipe: Recipe, processes: Processes) -> Corpus:
    plan = recipe.plan
    needed = Streams.words_needed(plan.num_streams * processes.size, plan.window)
    return prepare(recipe.text, folder, min_train_words=needed)


def _compare(run: RunFolder, recipe: Recipe, processes: Processes) -> None:
    """Refuse to go on where the text given now is not the text of the run."""
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".tmp-") as folder:
        now = _prepared(Path(folder) / "corpus", recipe, processes)
        before = open_corpus(run.corpus_path)
        if now.hash != before.hash:
            raise InputError(
                f"the text has changed since the run {run.path} began: {len(before.train)} training words then and "
                f"{len(now.train)} now, hash {before.hash[:12]} then and {now.hash[:12]} now; start a new run"
            )


def _link(source: Path, target: Path) -> None:
    """The same files under another name, without a second copy where the file system allows."""
    with new_folder(target) as folder:
        for path in source.iterdir():
            try:
                os.link(path, folder / path.name)
            except OSError:
                shutil.copy2(path, folder / path.name)


def _finished(run: RunFolder, outcome: Outcome, corpus: Corpus, *, evaluates: bool) -> Run:
    """Evaluate the best weights on the validation and test text, and write the outcome; process 0 alone does."""
    valid: dict[Head, Evaluation] = {}
    test: dict[Head, Evaluation] = {}
    if evaluates:
        model, padding = load(run.path).model, corpus.vocabulary.end_ids[0]
        valid = evaluate(model, corpus.valid, padding=padding, limit=FINAL_WORDS)
        test = evaluate(model, corpus.test, padding=padding, limit=FINAL_WORDS)
    finished = Run(
        path=run.path,
        outcome=outcome,
        valid=valid,
        test=test,
        unknown_rate=dict(corpus.unknown_rate),
        num_replacements=int(corpus.description["num_replacements"]),
        peak_memory_bytes=peak_memory_bytes(),
    )
    if evaluates:
        write_json(run.outcome_path, finished.to_json())
    return finished


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
