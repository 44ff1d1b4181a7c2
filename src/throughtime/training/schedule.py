"""How many steps a run has, and what happens at which of them: settled before step 1 and written into the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from throughtime.recipe import Plan

__all__ = ["Schedule", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The settled budget; resume reads it and measures nothing again.

    Attributes:
        steps: updates in all.
        evaluate_every_steps: updates between two evaluations on the validation text, each followed by a checkpoint.
        save_every_steps: updates between two checkpoints.
        valid_words: words of the validation text that an evaluation in training reads.
        step_seconds: measured time of one update, 0 where nothing was measured.
        device: "cpu" or "cuda".
        threads: threads of one process.
        precision: "float32" or "bfloat16", of the large products of the softmax in training.
        num_processes: processes that train together.
    """

    steps: int
    evaluate_every_steps: int
    save_every_steps: int
    valid_words: int
    step_seconds: float
    device: str
    threads: int
    precision: str
    num_processes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def learning_rate(step: int, steps: int, plan: Plan) -> float:
    """The learning rate of update `step` (from 0): a linear rise, then half a cosine down to nothing.

    Example:
        >>> plan = Plan(learning_rate=1.0, warmup_share=0.5)
        >>> [round(learning_rate(step, 4, plan), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    warmup = int(plan.warmup_share * steps)
    if step < warmup:
        return plan.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return plan.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
