"""Training as it happens, on standard error: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from throughtime.training import Evaluated, Event, GradientSeen, Measuring, Observer, Saved, Started, Stepped, Stopped
from throughtime.workflow.live_findings import LiveFindings

__all__ = ["bars", "learning_on", "shown"]

SECONDS_BETWEEN_LINES = 10.0
SMOOTHING = 0.98
NUM_BARS = 24
FAINTEST = -4.0
"""log10 of the gradient that has no bar at all; 1 %, as far as it reaches, is half a bar."""
_BLOCKS, _LETTERS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


@contextmanager
def shown() -> Iterator[Observer]:
    """An observer that shows what it is told, for as long as this is entered."""
    console = Console(stderr=True)
    bar, gradient = _bar(console), Text(no_wrap=True)
    view = _View(console, bar, gradient)
    if not console.is_terminal:
        yield view
        return
    with Live(Group(bar, gradient), console=console, transient=True):
        yield view


@contextmanager
def learning_on() -> Iterator[Callable[[int, int], None]]:
    """Shows how far a dynamic evaluation has come; takes the words that are scored, and of how many."""
    console = Console(stderr=True)
    spoke = time.monotonic()
    with _bar(console, transient=True, disable=not console.is_terminal) as bar:

        def tell(done: int, total: int) -> None:
            nonlocal spoke
            if done == 0:
                bar.add_task("learning on", numbers="choosing how fast")
                return
            numbers = f"{done:,} of {total:,} words"
            bar.update(bar.task_ids[0], completed=done, total=total, numbers=numbers)
            left, now = bar.tasks[0].time_remaining, time.monotonic()
            if not console.is_terminal and left is not None and now - spoke > SECONDS_BETWEEN_LINES:
                console.print(f"learning on: {numbers}, {left:.0f} s left", highlight=False)
                spoke = now

        yield tell


def _bar(console: Console, *, transient: bool = False, disable: bool = False) -> Progress:
    """What is done, a bar, numbers beside it, and the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=transient, disable=disable)


def bars(log10_gradient: tuple[float | None, ...], *, plain: bool = False) -> str:
    """A gradient by lag as a line of bars, lag 0 first; each is the mean over as many lags as it takes to fit.

    Example:
        >>> bars((0.0, -1.0, -2.0, -3.0, None))
        '█▆▄▂ '
        >>> bars((0.0, -1.0, -2.0, -3.0, None), plain=True)
        '@*=: '
    """
    marks = _LETTERS if plain else _BLOCKS
    number = min(NUM_BARS, len(log10_gradient))
    line = ""
    for place in range(number):
        begin, end = (edge * len(log10_gradient) // number for edge in (place, place + 1))
        told = [FAINTEST if value is None else max(FAINTEST, value) for value in log10_gradient[begin:end]]
        height = 1.0 - sum(told) / len(told) / FAINTEST
        line += marks[round(min(1.0, height) * (len(marks) - 1))]
    return line


class _View:
    def __init__(self, console: Console, bar: Progress, gradient: Text) -> None:
        self.console, self.bar, self.gradient = console, bar, gradient
        self.task: TaskID | None = None
        self.smooth_loss = 0.0
        self.first_step = self.steps = self.words_per_step = 0
        self.spoke = 0.0
        self.valid = self.reach = ""
        self.findings = LiveFindings()

    def __call__(self, event: Event) -> None:
        match event:
            case Measuring():
                self._say(f"measuring a step, to turn {event.minutes:g} minutes into steps ...")
            case Started():
                self._begin(event)
            case Stepped():
                self._step(event)
            case Evaluated():
                self._evaluate(event)
            case GradientSeen():
                self._see(event)
            case Saved():
                pass
            case Stopped():
                self._end(event)
        for sentence in self.findings(event):
            self._say(sentence)

    def _begin(self, event: Started) -> None:
        schedule = event.schedule
        for name, reason in event.skipped_checkpoints:
            self._say(f"passed over the damaged checkpoint {name}: {reason}")
        resumed = f", from step {event.first_step}" if event.first_step else ""
        self._say(
            f"{schedule.steps} steps of {event.words_per_step} words, in windows of {event.window}{resumed}; "
            f"{event.num_parameters / 1e6:.1f} million parameters; "
            f"{schedule.device}, {schedule.threads} threads, softmax in {schedule.precision}"
        )
        self.first_step, self.steps, self.words_per_step = event.first_step, schedule.steps, event.words_per_step
        self.smooth_loss, self.valid = 0.0, ""
        self.task = self.bar.add_task("training", total=schedule.steps, completed=event.first_step, numbers="")
        self.spoke = time.monotonic()

    def _step(self, event: Stepped) -> None:
        done = event.step - self.first_step
        keep = min(SMOOTHING, 1.0 - 1.0 / done)
        self.smooth_loss = keep * self.smooth_loss + (1.0 - keep) * event.loss_nats
        speed = done * self.words_per_step / event.seconds
        numbers = (
            f"loss {self.smooth_loss:.3f}  perplexity {math.exp(min(self.smooth_loss, 50.0)):.1f}"
            f"{self.valid}  {speed:,.0f} words/s"
        )
        if self.task is not None:
            self.bar.update(self.task, completed=event.step, numbers=numbers)
        if not self.console.is_terminal and time.monotonic() - self.spoke > SECONDS_BETWEEN_LINES:
            left = (self.steps - event.step) * event.seconds / done
            self._say(f"step {event.step} of {self.steps}: {numbers}{self.reach}  {left:.0f} s left")
            self.spoke = time.monotonic()

    def _evaluate(self, event: Evaluated) -> None:
        found = event.evaluation
        self.valid = f"  valid {found.perplexity:.1f}"
        best = ", the best so far" if event.best else ""
        self._say(
            f"step {event.step}: valid perplexity {found.perplexity:.1f} (context: {found.context}; "
            f"{100 * event.unknown_rate:.1f} % unknown words){best}"
        )

    def _see(self, event: GradientSeen) -> None:
        longest = len(event.log10_gradient) - 1
        reach = "an unknown number" if event.reach is None else f"{'at least ' * event.reach_censored}{event.reach}"
        self.reach = f"  gradient reaches {reach}"
        plain = not self.console.encoding.lower().startswith("utf")
        self.gradient.plain = (
            f"gradient by lag {bars(event.log10_gradient, plain=plain)} reaches {reach} of {longest} steps"
        )

    def _end(self, event: Stopped) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self.gradient.plain = ""
        if self.reach:
            self._say(f"step {event.step}: the {self.reach.strip()} steps")
        if event.reason == "early":
            self._say(f"stopped early after step {event.step}: the validation loss gets no better")

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
