"""Treating a run of this package, and whatever a factory in the user's own code returns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.check import at_least
from throughtime.errors import InputError, RecipeError, RunError
from throughtime.model import WordPredictor
from throughtime.model.recurrent import RecurrentPredictor
from throughtime.recipe import Recipe, build
from throughtime.remedy import TreatmentPlan
from throughtime.storage import RunFolder, read_json, write_json
from throughtime.text import Corpus, open_corpus
from throughtime.text.batches import Streams
from throughtime.training import evaluate, learning_rate
from throughtime.training.loop import SCHEDULE_FILE
from throughtime.training.update import make_optimizer, update
from throughtime.trial import Treatment, treat
from throughtime.trial.looks import Look
from throughtime.trial.procedure import TREATMENT_FILE, Progress
from throughtime.workflow.diagnosis import examine_run, factory_named
from throughtime.workflow.gradient_look import look, looked_at_words
from throughtime.workflow.gradient_watch import LONGEST, SEQUENCES, SHORTEST
from throughtime.workflow.horizons import reach_of
from throughtime.workflow.origin import ORIGIN_FILE, origin
from throughtime.workflow.reports import PAGE, report

__all__ = ["RunPatient", "treat_factory", "treat_run"]

_SCORED_WORDS = 20_000
"""Words of the validation text that score a training."""
_LOOKED_AT_WORDS = 2_000
"""Likewise, for each look at a training."""
_FEWEST_WORDS = 3
_FOLDER = "treatment"


class RunPatient:
    """A run as a patient: its recipe and its text, trained again with other seeds, on one thread.

    Its score is minus the validation loss in nats after a fixed number of steps, over the whole schedule of its
    learning rate. Nobody knows a target.

    Args:
        recipe: all choices.
        corpus: the folder of its text.
        steps: updates of a training.
    """

    target: float | None = None

    def __init__(self, recipe: Recipe, corpus: Path, steps: int) -> None:
        self.recipe, self.corpus_path, self.steps = recipe, corpus, steps

    @property
    def corpus(self) -> Corpus:
        """Its text; opened where it is needed, so that the patient is small enough to be sent to other processes."""
        return open_corpus(self.corpus_path)

    def treated(self, plan: TreatmentPlan) -> RunPatient:
        """The same run under a plan, which its recipe takes in.

        Raises:
            RecipeError: if a recipe has nothing of the kind.
        """
        if plan.patience is not None:
            raise RecipeError("every training of a trial has the same number of steps: leave out patience")
        values = {"plan": plan.applied_to(self.recipe.plan)}
        return RunPatient(Recipe(**{**vars(self.recipe), **values}), self.corpus_path, self.steps)

    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        """The model and the optimizer of the recipe."""
        torch.manual_seed(seed)
        counts = torch.tensor(self.corpus.vocabulary.counts, dtype=torch.float32)
        model = build(self.recipe, counts, matmul_dtype=torch.float32)
        return model, make_optimizer(model, self.recipe.plan)

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        """((ids, first, last), whether the streams begin here)."""
        corpus, plan = self.corpus, self.recipe.plan
        with torch.random.fork_rng():
            model, _ = self.build(seed)
        assert isinstance(model, WordPredictor)
        streams = Streams(
            corpus.train,
            num_streams=plan.num_streams,
            window=plan.window,
            before=model.before,
            after=model.after,
            padding=corpus.vocabulary.end_ids[0],
            seed=seed,
        )
        for step in itertools.count():
            stretch = streams.stretch(step)
            yield (torch.from_numpy(stretch.ids), stretch.first, stretch.last), stretch.starts

    def loss(self, outputs: Any, _: Any) -> Tensor:
        """A word predictor returns its loss."""
        return outputs[0]  # type: ignore[no-any-return]  # whatever the model returns

    def train(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        batches: Iterator[tuple[Any, Any]],
        num_steps: int,
        _: TreatmentPlan,
    ) -> None:
        """As a run is trained; the recipe has the plan in it."""
        assert isinstance(model, WordPredictor)
        assert isinstance(optimizer, torch.optim.AdamW)
        plan = self.recipe.plan
        state = model.initial_state(plan.num_streams)
        model.train()
        for step in range(num_steps):
            batch, starts = next(batches)
            if starts or not plan.carry:
                state = model.initial_state(plan.num_streams)
            rate = learning_rate(step, num_steps, plan)
            found = update(model, optimizer, batch, state, step=step + 1, clip=plan.clip, learning_rate=rate)
            state = found.state

    def reach(self, model: nn.Module) -> int | None:
        """Of the gradient, on some of the validation text; None without a recurrence from left to right."""
        valid = self.corpus.valid
        if not isinstance(model, RecurrentPredictor) or len(valid) < _FEWEST_WORDS:
            return None
        return reach_of(model, valid)

    def look(self, model: nn.Module) -> Look:
        """The loss over all heads and the gradient, on some of the validation text."""
        assert isinstance(model, WordPredictor)
        valid, plan = self.corpus.valid, self.recipe.plan
        num_words = min(LONGEST, max(SHORTEST, plan.window * 3 // 2))
        rows = looked_at_words(model, valid, num_words, SEQUENCES)
        return Look(
            loss=self._loss(model, _LOOKED_AT_WORDS),
            gradient=None if rows is None else look(model, rows),
            window=None if rows is None else plan.window,
            cannot_tell="" if rows is not None else "the model has no recurrence, or the text is too short",
        )

    def score(self, model: nn.Module) -> float:
        """Minus the validation loss, over all heads."""
        assert isinstance(model, WordPredictor)
        return -self._loss(model, _SCORED_WORDS)

    def _loss(self, model: WordPredictor, limit: int) -> float:
        """In validation, on about so many words."""
        corpus = self.corpus
        found = evaluate(model, corpus.valid, padding=corpus.vocabulary.end_ids[0], limit=limit)
        return sum(each.loss_nats for each in found.values()) / len(found)


def treat_run(
    run: str | Path,
    *,
    steps: int | None = None,
    seeds: int | Sequence[int] = 5,
    budget_seconds: float | None = None,
    remedies: Sequence[str] | None = None,
    jobs: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Treatment:
    """Try what may treat a run, see `throughtime.treat`; nobody knows a target, so "better" is all that is claimed.

    Args:
        run: its folder.
        steps: updates of a training; as many as the run had unless given.
        seeds: how many, or which.
        budget_seconds: time for all of it.
        remedies: names; what its diagnosis suggests unless given.
        jobs: processes.
        out: a folder for the trial; `treatment` in that of the run unless given.
        progress: is told what happens, a line each.

    Raises:
        InputError: if the text is too short, or the budget too small.
        RecipeError: if a choice does not fit.
        RunError: if the run cannot be used.
    """
    folder = RunFolder.open(Path(run))
    if steps is None:
        steps = _steps_of(folder)
    at_least("steps", steps, 1)
    patient = RunPatient(Recipe.read(folder.recipe_path), folder.corpus_path, steps)
    examined = examine_run(run)
    there = folder.path / _FOLDER if out is None else Path(out)
    found = treat(
        patient,
        seeds=seeds,
        budget_seconds=budget_seconds,
        remedies=examined.prescription if remedies is None else remedies,
        diagnosis=examined.diagnosis,
        jobs=jobs,
        out=there,
        progress=progress,
    )
    return _with_page(found, there)


def treat_factory(name: str, *, out: str | Path | None = None, **choices: Any) -> Treatment:
    """Treat the patient that `package.module:factory` returns, see `throughtime.treat`.

    Args:
        name: of the factory.
        out: a folder for the trial; it gets a page too.
        choices: further ones of `throughtime.treat`.

    Raises:
        InputError: if it cannot be imported or called, or returns no patient.
    """
    factory = factory_named(name)
    try:
        patient = factory()
    except Exception as error:
        raise InputError(f"{name} fails ({type(error).__name__}: {error})") from error
    found = treat(patient, out=out, **choices)
    return found if out is None else _with_page(found, Path(out))


def _with_page(found: Treatment, folder: Path) -> Treatment:
    """The same, drawn beside its record: seeds as dots, arms as rows, and how it was made."""
    if not found.nothing_to_treat:
        write_json(folder / ORIGIN_FILE, origin())
        report(folder / TREATMENT_FILE, out=folder / PAGE)
    return found


def _steps_of(folder: RunFolder) -> int:
    path = folder.path / SCHEDULE_FILE
    if not path.exists():
        raise RunError(f"{folder.path} has not been trained: tell how long with steps")
    return int(read_json(path)["steps"])
