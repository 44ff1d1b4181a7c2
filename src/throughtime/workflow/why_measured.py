"""`throughtime.why`: why recurrent networks are hard to train, measured before the reader's eyes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from throughtime.trial.surroundings import num_threads
from throughtime.workflow.why_gradient import gates, way_back
from throughtime.workflow.why_memory import loop, window
from throughtime.workflow.why_record import Answer, WhyRecord
from throughtime.workflow.why_sensitivity import sensitivity
from throughtime.workflow.why_training import drift, lengths, outcomes, trained

__all__ = ["why"]


def why(*, seed: int = 0, threads: int = 1, tell: Callable[[Answer], None] | None = None) -> WhyRecord:
    """Why recurrent networks are hard to train, in eight measurements that take about a minute.

    Nothing is looked up: small networks are trained and measured here and now, every number comes from them.

    Args:
        seed: of all weights and data.
        threads: with which torch computes; the networks are so small that a second one waits more than it computes.
        tell: called with each answer as soon as it is there.

    Returns:
        All answers; `print` it for the sentences.
    """
    answers = []
    with num_threads(threads):
        for answer in _answers(seed):
            answers.append(answer)
            if tell is not None:
                tell(answer)
    return WhyRecord.of(tuple(answers), seed=seed, torch_version=torch.__version__)


def _answers(seed: int) -> Iterator[Answer]:
    """In the order of the argument; the starts are trained once, for two answers."""
    first: tuple[Callable[[int], Answer], ...] = (window, loop, way_back, lengths)
    for measure in first:
        yield _timed(measure, seed)
    begin = time.perf_counter()
    networks = trained(seed)
    yield replace(drift(networks), seconds=time.perf_counter() - begin)
    yield _timed(gates, seed)
    yield _timed(sensitivity, seed)
    yield outcomes(networks)


def _timed(measure: Callable[[int], Answer], seed: int) -> Answer:
    begin = time.perf_counter()
    return replace(measure(seed), seconds=time.perf_counter() - begin)
