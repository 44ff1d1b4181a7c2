"""Where memory does not suffice for some sequences, half as many, and a note that says so."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.model_check import out_of_memory

__all__ = ["of_fewer_if_need_be"]

T = TypeVar("T")


def of_fewer_if_need_be(
    ask: Callable[[Tensor, tuple[str, ...]], T],
    rows: Tensor,
    *,
    num_steps: int,
    fewest: int = 1,
    most: int | None = None,
) -> T:
    """What `ask` gives for some sequences, or for half of them, a quarter, ... as far as there is memory.

    Args:
        ask: (which sequences, what a reader should know of them) -> the answer.
        rows: (B,) all that are wanted.
        num_steps: T, for the error.
        fewest: so many sequences are needed.
        most: so many at most once memory has run out; for what takes all of a batch where it can.

    Raises:
        InputError: if there is no memory for so few.
    """
    notes: tuple[str, ...] = ()
    while True:
        try:
            return ask(rows, notes)
        except Exception as error:
            if not out_of_memory(error):
                raise
            count = rows.numel()
            fewer = min(count // 2, count if most is None else most)
            if fewer < fewest:
                raise InputError(
                    f"out of memory with {count} sequences of {num_steps} steps: hand over shorter or fewer ones"
                ) from error
        # Outside of the handler, where what failed is no longer held by its traceback.
        gc.collect()
        rows, notes = rows[:fewer], (f"out of memory with {count} sequences: {fewer} were measured",)
