"""Minutes into steps, by a short measurement that leaves the model as it was."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from throughtime.model import WordPredictor
from throughtime.recipe import Recipe
from throughtime.text.batches import Streams
from throughtime.training.compute import Settled
from throughtime.training.processes import Processes
from throughtime.training.schedule import Schedule

__all__ = ["settle_schedule"]

VALID_WORDS = 50_000
WARMUP_STEPS = 3
MOST_STEPS = 12
MOST_SECONDS = 4.0
EVALUATION_SHARE = 0.08
"""At most this share of the minutes goes to evaluations and checkpoints."""
CHECKPOINT_BYTES_PER_SECOND = 100e6
SECONDS_BETWEEN_SAVES = 60.0


def settle_schedule(
    recipe: Recipe,
    model: WordPredictor,
    streams: Streams,
    valid_words: int,
    settled: Settled,
    processes: Processes,
    *,
    one_step: Callable[[], None],
    evaluate_part: Callable[[int], None],
) -> Schedule:
    """How many steps the budget is, and when to evaluate and save.

    Args:
        recipe: its budget is turned into steps.
        model: for its size.
        streams: the training text.
        valid_words: words of the validation text.
        settled: device, threads and precision.
        processes: all of them measure; process 0's result holds.
        one_step: makes an update that changes nothing.
        evaluate_part: scores that many words of the validation text.
    """
    scored = min(valid_words, VALID_WORDS)
    budget, per_epoch = recipe.budget, streams.steps_per_epoch
    step_seconds = 0.0
    if budget.minutes:
        step_seconds = _median_seconds(one_step)
        sample = min(scored, 4096)
        part = _seconds(lambda: evaluate_part(sample))
        numbers = sum(parameter.numel() for parameter in model.parameters())
        pause = part * scored / sample + numbers * 12 / CHECKPOINT_BYTES_PER_SECOND
        total = budget.minutes * 60.0
        evaluations = min(20, max(1, int(EVALUATION_SHARE * total / pause)))
        steps = max(1, int((total - evaluations * pause) / step_seconds))
        save_every = max(1, int(SECONDS_BETWEEN_SAVES / step_seconds))
    else:
        steps = budget.steps or max(1, round(budget.epochs * per_epoch))
        evaluations = max(1, min(20, round(2 * steps / per_epoch)))
        save_every = max(1, per_epoch // 4)
    steps = processes.agree(steps)
    evaluate_every = processes.agree(-(-steps // evaluations))
    return Schedule(
        steps=steps,
        evaluate_every_steps=evaluate_every,
        save_every_steps=processes.agree(min(save_every, evaluate_every)),
        valid_words=scored,
        step_seconds=step_seconds,
        device=settled.device,
        threads=settled.threads,
        precision=settled.precision,
        num_processes=processes.size,
    )


def _median_seconds(one_step: Callable[[], None]) -> float:
    for _ in range(WARMUP_STEPS):
        one_step()
    times: list[float] = []
    while len(times) < 3 or (len(times) < MOST_STEPS and sum(times) < MOST_SECONDS):
        times.append(_seconds(one_step))
    return statistics.median(times)


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
