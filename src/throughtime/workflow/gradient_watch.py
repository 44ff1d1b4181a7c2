"""An observer that measures the gradient through time while a network trains, and keeps its history in the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from throughtime.errors import InputError, RunError
from throughtime.measurement import GradientHistory
from throughtime.model import WordPredictor
from throughtime.storage import RunFolder
from throughtime.storage.atomic import make_folder
from throughtime.text import Corpus
from throughtime.training import Event, GradientSeen, Observer, Saved, Started, Stepped, Stopped
from throughtime.workflow.gradient_look import look, looked_at_words

__all__ = ["HISTORY_FILE", "GradientWatch"]

HISTORY_FILE = "gradient-history.json"
NUM_LOOKS = 28
SHARE = 0.02
"""Of the training time that all looks together may take ..."""
ALLOWANCE_SECONDS = 0.5
"""... or, where that is more, so long: a network that trains in seconds is looked at too."""
SEQUENCES = 8
SHORTEST, LONGEST = 32, 192
"""Words in a stretch; between these, half as many again as in the training window, to see what lies beyond it."""


class GradientWatch:
    """Looks about 28 times at steps that lie ever further apart, fewer times where a look takes long.

    It measures copies, in eval mode, on stretches of the validation text, and draws no random number of the run's: the
    run is bit for bit the same with and without it.

    Args:
        run: whose folder gets the record, at every checkpoint.
        corpus: of the run.
        observers: are told what was seen.
    """

    def __init__(self, run: RunFolder, corpus: Corpus, observers: Sequence[Observer] = ()) -> None:
        self._path = run.records_path / HISTORY_FILE
        self._valid = corpus.valid
        self._observers = observers
        self._pace = _Pace(0, 0)
        self._window = 0
        self._stretches = torch.empty(0, 0)
        self._model: WordPredictor | None = None
        self._before: dict[str, Tensor] = {}
        self._history: GradientHistory | None = None
        self._saved_step = -1

    def __call__(self, event: Event) -> None:
        """Look where it is time to, and tell the others: what was seen comes after the start and before the end."""
        if isinstance(event, Stopped):
            self._take_in(event)
            self._tell(event)
        else:
            self._tell(event)
            self._take_in(event)

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)

    def _take_in(self, event: Event) -> None:
        if isinstance(event, Started):
            self._begin(event)
        elif self._model is None:
            return
        elif isinstance(event, Stepped):
            if event.step == self._pace.next_step:
                self._look(event.step, event.seconds)
            elif event.step + 1 == self._pace.next_step:
                self._remember()
        elif isinstance(event, Saved | Stopped):
            if isinstance(event, Stopped) and self._history is not None and self._history.steps[-1] < event.step:
                self._look(event.step, None)
            self._save()

    def _begin(self, event: Started) -> None:
        """A model without a recurrence is not looked at."""
        self._history = _past(self._path, event.first_step)
        self._window, steps = event.window, event.schedule.steps
        num_words = min(LONGEST, max(SHORTEST, event.window * 3 // 2))
        stretches = looked_at_words(event.model, self._valid, num_words, SEQUENCES)
        if stretches is None or event.first_step >= steps:
            return
        self._model, self._stretches = event.model, stretches
        self._pace = _Pace(event.first_step, steps, step_seconds=event.schedule.step_seconds)
        if self._history is None or self._history.steps[-1] < event.first_step:
            self._look(event.first_step, None)
        else:
            self._pace.looked(event.first_step, 0.0, None)
            self._remember()

    def _look(self, step: int, training_seconds: float | None) -> None:
        assert self._model is not None
        begin = time.perf_counter()
        try:
            found = look(self._model, self._stretches)
        except (InputError, RuntimeError) as error:  # a training of hours is not to die of being looked at
            self._give_up(f"not measured after step {step}: {error}")
            return
        updates = {step: self._update_ratios()} if self._before else {}
        self._before = {}
        self._pace.looked(step, time.perf_counter() - begin, training_seconds)
        if self._pace.next_step == step + 1:
            self._remember()
        seconds = time.perf_counter() - begin
        now = GradientHistory.of({step: found}, window=self._window, updates=updates, seconds=seconds)
        self._history = now if self._history is None else self._history.then(now)
        self._tell(
            GradientSeen(
                step=step,
                log10_gradient=found.log10_gradient,
                reach=found.reach,
                reach_censored=found.reach_censored,
            )
        )

    def _give_up(self, note: str) -> None:
        self._model, self._before = None, {}
        if self._history is not None:
            self._history = replace(self._history, notes=(*self._history.notes, note))

    def _remember(self) -> None:
        """The weights as they are before the update that will be looked at."""
        assert self._model is not None
        self._before = {name: weight.detach().clone() for name, weight in self._model.named_parameters()}

    def _update_ratios(self) -> dict[str, float]:
        """|| change || / || weight || of each parameter, in the last update."""
        assert self._model is not None
        ratios = {}
        for name, weight in self._model.named_parameters():
            before = self._before[name]
            change, size = torch.stack([(weight.detach() - before).norm(), before.norm()]).tolist()
            if size > 0:
                ratios[name] = change / size
        return ratios

    def _save(self) -> None:
        if self._history is None or self._history.steps[-1] == self._saved_step:
            return
        make_folder(self._path.parent)
        self._history.save(self._path)
        self._saved_step = self._history.steps[-1]


@dataclass
class _Pace:
    """When to look next, so that looks are spread evenly over the logarithm of the step and stay cheap."""

    first_step: int
    steps: int
    step_seconds: float = 0.0
    next_step: int = 0
    left: int = NUM_LOOKS
    spent_seconds: float = 0.0

    def looked(self, step: int, seconds: float, training_seconds: float | None) -> None:
        """A look took so long, and the training up to it, itself included, `training_seconds`."""
        self.spent_seconds += seconds
        self.left -= 1
        if training_seconds is not None and step > self.first_step:
            self.step_seconds = max(0.0, training_seconds - self.spent_seconds) / (step - self.first_step)
        expected = self.step_seconds * (self.steps - self.first_step)
        budget = max(ALLOWANCE_SECONDS, SHARE * expected) - self.spent_seconds
        affordable = int(budget / seconds) if seconds > 0 else self.left
        several = max(1, min(self.left, affordable))
        ratio = (self.steps / max(step, 1)) ** (1.0 / several)
        self.next_step = max(step + 1, round(step * ratio))


def _past(path: Path, step: int) -> GradientHistory | None:
    """What an interrupted run had seen up to the step from which it goes on; a damaged record is begun anew."""
    if not path.exists():
        return None
    try:
        return GradientHistory.load(path).up_to(step)
    except RunError:
        return None
