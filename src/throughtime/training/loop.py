"""The training loop: windows in order, the state carried, every step logged, nothing lost."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import Interrupted, NonFiniteError, RunError
from throughtime.model import State
from throughtime.recipe import Recipe, build
from throughtime.storage import MetricsFile, RunFolder, write_json
from throughtime.text import Corpus
from throughtime.text.batches import Streams, Stretch
from throughtime.training.budget import settle_schedule
from throughtime.training.compute import Settled
from throughtime.training.evaluation import evaluate
from throughtime.training.events import Evaluated, Event, Measuring, Observer, Saved, Started, Stepped, Stopped
from throughtime.training.processes import Processes
from throughtime.training.schedule import Schedule, learning_rate
from throughtime.training.signals import StopRequest
from throughtime.training.snapshot import Progress, restore, tensors_of
from throughtime.training.update import make_optimizer, update

__all__ = ["Outcome", "train"]

SCHEDULE_FILE = "schedule.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How training ended.

    Attributes:
        steps: updates made.
        best_step: the step whose weights predicted the validation text best.
        reason: "budget" or "early".
        seconds: that this process trained.
        words_per_second: training words, over all processes.
    """

    steps: int
    best_step: int
    reason: str
    seconds: float
    words_per_second: float


def train(
    run: RunFolder,
    recipe: Recipe,
    corpus: Corpus,
    settled: Settled,
    processes: Processes,
    *,
    observers: Sequence[Observer] = (),
) -> Outcome:
    """Train until the budget is spent, from the newest checkpoint of the run if there is one.

    A signal finishes the step, saves and raises; numbers that are not finite stop the run before they touch a weight.

    Args:
        run: the folder; this process holds its lock (process 0 does, of several).
        recipe: all choices.
        corpus: the text as ids.
        settled: device, threads and precision.
        processes: that train together.
        observers: are told every event; they cannot change the numbers.

    Raises:
        Interrupted: after a signal, once the checkpoint stands.
        NonFiniteError: with the parameter and step at which it began.
        RunError: if the run cannot be written or continued.
    """
    with torch.random.fork_rng(), StopRequest() as stop:
        return _Loop(run, recipe, corpus, settled, processes, observers).run(stop)


class _Loop:
    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        corpus: Corpus,
        settled: Settled,
        processes: Processes,
        observers: Sequence[Observer],
    ) -> None:
        self.run_folder, self.recipe, self.corpus = run, recipe, corpus
        self.processes, self.observers = processes, observers
        self.metrics = MetricsFile(run.metrics_path)
        self.padding = corpus.vocabulary.end_ids[0]
        torch.manual_seed(recipe.seed)
        counts = torch.tensor(corpus.vocabulary.counts, dtype=torch.float32)
        self.schedule = _read_schedule(run, processes)
        dtype = settled.matmul_dtype
        if self.schedule is not None:
            dtype = torch.bfloat16 if self.schedule.precision == "bfloat16" else torch.float32
            torch.set_num_threads(self.schedule.threads)
        self.model = build(recipe, counts, matmul_dtype=dtype).to(settled.device)
        self.optimizer = make_optimizer(self.model, recipe.plan)
        self.streams = Streams(
            corpus.train,
            num_streams=recipe.plan.num_streams * processes.size,
            window=recipe.plan.window,
            before=self.model.before,
            after=self.model.after,
            padding=self.padding,
            seed=recipe.seed,
        )
        self.progress = Progress()
        self.settled = settled

    def run(self, stop: StopRequest) -> Outcome:
        """Everything, from measuring the budget to the last checkpoint."""
        checkpoint = self.run_folder.checkpoints.newest()
        skipped = () if checkpoint is None else checkpoint.skipped
        if checkpoint is not None:
            self.progress = restore(self.model, self.optimizer, checkpoint, self.processes.rank)
        schedule = self.schedule or self._settle_schedule()
        if self.processes.writes:
            self.metrics.truncate_after(self.progress.step)
        self._tell(
            Started(
                first_step=self.progress.step,
                schedule=schedule,
                window=self.streams.window,
                words_per_step=self.streams.num_streams * self.streams.window,
                num_parameters=sum(weight.numel() for weight in self.model.parameters()),
                model=self.model,
                skipped_checkpoints=skipped,
            )
        )
        callee = self.processes.wrap(self.model)
        first_step, begin = self.progress.step, time.perf_counter()
        while self.progress.step < schedule.steps and not self._hopeless:
            self._step(callee, schedule, begin)
            step = self.progress.step
            asked_to_stop = self.processes.largest(stop.signal_number)
            evaluated = step % schedule.evaluate_every_steps == 0 or step == schedule.steps
            if evaluated:
                self._evaluate(schedule)
            if evaluated or asked_to_stop or step % schedule.save_every_steps == 0:
                self._save()
            if asked_to_stop:
                raise Interrupted(
                    f"stopped by signal {asked_to_stop} after step {step} of {schedule.steps}; "
                    f"continue with --resume --out {self.run_folder.path}",
                    asked_to_stop,
                )
        seconds = time.perf_counter() - begin
        reason = "early" if self._hopeless else "budget"
        self._tell(Stopped(step=self.progress.step, reason=reason))
        words = (self.progress.step - first_step) * self.streams.num_streams * self.streams.window
        return Outcome(
            steps=self.progress.step,
            best_step=self.progress.best_step,
            reason=reason,
            seconds=seconds,
            words_per_second=words / seconds if words else 0.0,
        )

    @property
    def _hopeless(self) -> bool:
        """Whether the validation loss has got no better for so long that training stops."""
        return self.progress.evaluations_since_best >= self.recipe.plan.patience

    def _step(self, callee: torch.nn.Module, schedule: Schedule, begin: float) -> None:
        step = self.progress.step
        torch.manual_seed(_seed_of_step(self.recipe.seed, step, self.processes.rank))
        rate = learning_rate(step, schedule.steps, self.recipe.plan)
        batch, state = self._batch(step)
        found = update(
            callee,
            self.optimizer,
            batch,
            state,
            step=step + 1,
            clip=self.recipe.plan.clip,
            learning_rate=rate,
        )
        self.progress.step, self.progress.state = step + 1, found.state
        event = Stepped(
            step=step + 1,
            loss_nats=found.loss_nats,
            gradient_norm=found.gradient_norm,
            clipped_gradient_norm=min(found.gradient_norm, self.recipe.plan.clip),
            learning_rate=rate,
            seconds=time.perf_counter() - begin,
        )
        self._log(
            {
                "event": "step",
                "step": event.step,
                "loss_nats": event.loss_nats,
                "gradient_norm": event.gradient_norm,
                "clipped_gradient_norm": event.clipped_gradient_norm,
                "learning_rate": event.learning_rate,
                "seconds": event.seconds,
            }
        )
        self._tell(event)

    def _batch(self, step: int) -> tuple[tuple[Tensor, int, int], State]:
        own = self.recipe.plan.num_streams
        rank = self.processes.rank
        stretch: Stretch = self.streams.stretch(step, streams=slice(rank * own, (rank + 1) * own))
        ids = torch.from_numpy(stretch.ids).to(self.settled.device)
        fresh = stretch.starts or not self.recipe.plan.carry or not self.progress.state
        return (ids, stretch.first, stretch.last), self.model.initial_state(own) if fresh else self.progress.state

    def _evaluate(self, schedule: Schedule) -> None:
        found = evaluate(
            self.model, self.corpus.valid, padding=self.padding, limit=schedule.valid_words, processes=self.processes
        )
        loss = sum(evaluation.loss_nats for evaluation in found.values()) / len(found)
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"step {self.progress.step}: the validation loss is {loss}; the last good checkpoint stands"
            )
        best = loss < self.progress.best_loss_nats
        if best:
            self.progress.best_step, self.progress.best_loss_nats = self.progress.step, loss
        self.progress.evaluations_since_best = 0 if best else self.progress.evaluations_since_best + 1
        unknown_rate = self.corpus.unknown_rate["valid"]
        common = {"event": "evaluation", "step": self.progress.step, "best": best, "unknown_rate": unknown_rate}
        for evaluation in found.values():
            self._log(common | evaluation.to_json())
        main = found[self.model.heads[0]]
        self._tell(Evaluated(step=self.progress.step, evaluation=main, unknown_rate=unknown_rate, best=best))

    def _save(self) -> None:
        parts = [self.processes.gather(part) for part in self.progress.state]
        carried = [list(of_rank) for of_rank in zip(*parts, strict=True)]
        if self.processes.writes:
            self.metrics.sync()
            self.run_folder.checkpoints.save(
                self.progress.step,
                tensors_of(self.model, self.optimizer, carried),
                self.progress.to_json(),
                best_step=self.progress.best_step or self.progress.step,
            )
        self.processes.wait()
        self._tell(Saved(step=self.progress.step))

    def _settle_schedule(self) -> Schedule:
        minutes = self.recipe.budget.minutes
        if minutes:
            self._tell(Measuring(minutes=minutes))
        batch, state = self._batch(0)

        def one_step() -> None:
            update(self.model, self.optimizer, batch, state, step=0, clip=1.0, learning_rate=0.0)

        def evaluate_part(words: int) -> None:
            evaluate(self.model, self.corpus.valid, padding=self.padding, limit=words)

        schedule = settle_schedule(
            self.recipe,
            self.model,
            self.streams,
            len(self.corpus.valid),
            self.settled,
            self.processes,
            one_step=one_step,
            evaluate_part=evaluate_part,
        )
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        if self.processes.writes:
            write_json(self.run_folder.path / SCHEDULE_FILE, schedule.to_json())
        return schedule

    def _log(self, line: dict[str, Any]) -> None:
        if self.processes.writes:
            self.metrics.append(line)

    def _tell(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)


def _seed_of_step(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step and process, so that random numbers need no memory."""
    return ((seed * 1_000_003 + rank) * 1_000_000_007 + step) % (1 << 63)


def _read_schedule(run: RunFolder, processes: Processes) -> Schedule | None:
    path = run.path / SCHEDULE_FILE
    if not path.exists():
        return None
    try:
        schedule = Schedule(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}): start a new run") from None
    if schedule.num_processes != processes.size:
        raise RunError(
            f"the run was begun by {schedule.num_processes} processes and cannot go on with {processes.size}: "
            f"start it with torchrun --nproc-per-node {schedule.num_processes}"
        )
    return schedule
