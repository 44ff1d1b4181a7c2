"""One attempt: a network trained on a task for so many minutes, or until it has solved it."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.tasks import Task
from throughtime.workflow.bench_model import TaskNetwork, num_asked
from throughtime.workflow.bench_setting import Setting

__all__ = ["Attempt", "attempt", "fresh", "target_score"]

_TEST_SEED = 1_000_003
"""Added to the seed of the data that is trained on."""
_TEST_SEQUENCES = 512
_EIGENVALUES = ("log_decay", "log_phase")
"""Endings of the names of an LRU's parameters that are its eigenvalues."""
_GROWTH = 2
_STEPS_JUDGED = 10
_STEPS_BETWEEN_TESTS = 20


@dataclass(frozen=True)
class Attempt:
    """How it went.

    Attributes:
        solved: whether the test score reached its target, at the full length (and at the longer one, if asked).
        steps: updates made.
        seconds: of training until then, or all of them; tests and the making of batches included.
        score: of the last test, 0 if there was none.
        length: at which it trained last: the task's, where a curriculum got that far.
        failed: why it ended early, if not because it was solved.
    """

    solved: bool
    steps: int
    seconds: float
    score: float
    length: int
    failed: str | None = None


def fresh(task: Task, setting: Setting, seed: int) -> TaskNetwork:
    """The network with which an attempt begins; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return TaskNetwork(task, setting)


def target_score(task: Task) -> float:
    """Accuracy of 0.99; of numbers 0.94 of the variance explained, for adding a mean squared error of 0.01."""
    return 0.94 if task.numbers else 0.99


def attempt(
    task: Task,
    setting: Setting,
    *,
    minutes: float,
    seed: int,
    test_length: int | None = None,
    most_steps: int | None = None,
    network: TaskNetwork | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Attempt:
    """Train until a test says that the task is solved, or time is up.

    Args:
        task: at its full length.
        setting: what is trained, and how.
        minutes: by the clock.
        seed: of the weights and the data.
        test_length: of the sequences of the test; that of the task unless given.
        most_steps: no more updates than that.
        network: to be trained in place; a fresh one unless given.
        clock: tells seconds; `time.process_time` where other work on the machine shall not count.

    Returns:
        How it went; what is not finite ends it, and is no error.
    """
    if network is None:
        network = fresh(task, setting, seed)
    optimizer = _optimizer(network, setting)
    course = _Course(task, setting, seed)
    tested = task if test_length is None else replace(task, length=test_length)
    begin, step, score, last_test = clock(), 0, 0.0, -_STEPS_BETWEEN_TESTS

    def ended(solved: bool, failed: str | None = None) -> Attempt:
        return Attempt(solved, step, clock() - begin, score, course.length, failed)

    while clock() - begin < 60 * minutes and (most_steps is None or step < most_steps):
        now = course.task(step)
        batch = now.batch(setting.batch_size, seed=seed, step=step)
        outputs, targets = _answers(network, now, batch.inputs, batch.targets)
        loss = now.loss(outputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation for it
        norm = nn.utils.clip_grad_norm_(network.parameters(), setting.clip)
        if not math.isfinite(norm.item() + loss.item()):
            return ended(False, f"step {step + 1}: loss {loss.item():g}, norm of the gradient {norm.item():g}")
        optimizer.step()
        step += 1
        if course.over(now, now.score(outputs, targets)) and step - last_test >= _STEPS_BETWEEN_TESTS:
            last_test, score = step, held_out_score(network, tested, seed, setting.batch_size)
            if score >= target_score(task):
                return ended(True)
    score = held_out_score(network, tested, seed, setting.batch_size)
    return ended(score >= target_score(task))


def _optimizer(network: nn.Module, setting: Setting) -> torch.optim.Adam:
    eigenvalues = [p for name, p in network.named_parameters() if name.endswith(_EIGENVALUES)]
    others = [p for name, p in network.named_parameters() if not name.endswith(_EIGENVALUES)]
    groups: list[dict[str, Any]] = [{"params": others}]
    if eigenvalues:
        groups.append({"params": eigenvalues, "lr": setting.learning_rate * setting.eigenvalue_rate})
    return torch.optim.Adam(groups, lr=setting.learning_rate)


def held_out_score(network: nn.Module, task: Task, seed: int, batch_size: int) -> float:
    """Of sequences that were not trained on, as many at a time as in training, for as much memory as that."""
    scores = []
    with torch.no_grad():
        for step in range(math.ceil(_TEST_SEQUENCES / batch_size)):
            batch = task.batch(batch_size, seed=_TEST_SEED + seed, step=step)
            scores.append(task.score(*_answers(network, task, batch.inputs, batch.targets)))
    return sum(scores) / len(scores)


def _answers(network: nn.Module, task: Task, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs at the steps that are asked about, and their targets."""
    asked = num_asked(task, targets)
    return network(inputs, asked), targets if asked is None else targets[-asked:]


class _Course:
    """A curriculum over length, a longer one when the last ten batches reached the target; none without `shortest`.

    Every second batch has the length reached so far, the others any length up to it: one that sees a single length may
    learn what holds for this length alone.
    """

    def __init__(self, task: Task, setting: Setting, seed: int) -> None:
        self.whole = task
        self.shortest = setting.shortest
        self.length = task.length if setting.shortest is None else setting.shortest
        self.random = random.Random(seed)
        self.scores: deque[float] = deque(maxlen=_STEPS_JUDGED)

    def task(self, step: int) -> Task:
        """The task of this step's batch."""
        length = self.length
        if self.shortest is not None and step % 2:
            length = self.random.randint(self.shortest, self.length)
        return self.whole if length == self.whole.length else replace(self.whole, length=length)

    def over(self, task: Task, score: float) -> bool:
        """Take in the score of a batch; whether the network is at the full length and good enough to be tested."""
        if task.length < self.length:
            return False
        self.scores.append(score)
        mean, target = sum(self.scores) / len(self.scores), target_score(self.whole)
        if len(self.scores) < _STEPS_JUDGED or mean < target:
            return False
        if self.length == self.whole.length:
            return True
        self.length = min(self.whole.length, math.ceil(_GROWTH * self.length))
        self.scores.clear()
        return False
