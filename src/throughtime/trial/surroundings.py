"""Where a training happens: random states of its own, its number of threads, and what it prints kept apart."""

from __future__ import annotations

import contextlib
import io
import os
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["files_written", "num_threads", "quietly", "seeded"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All random generators begin at a seed, and are left as they were found."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextlib.contextmanager
def quietly() -> Iterator[io.StringIO]:
    """What is printed is caught, and warnings of the user's code are not shown; yields what was printed."""
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        warnings.simplefilter("ignore")
        yield printed


@contextlib.contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Torch computes with so many threads, and with as many as before afterwards; 0 changes nothing.

    With one, processes share the cores, and numbers do not hang on how many there are.
    """
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def files_written() -> Iterator[list[str]]:
    """Yields a list that holds, at the end, the files of the present folder that are new or were written to."""
    found: list[str] = []
    before = _files()
    try:
        yield found
    finally:
        found += sorted(name for name, state in _files().items() if before.get(name) != state)


def _files() -> dict[str, tuple[int, int]]:
    """When each was last written, and its size."""
    found = {}
    with contextlib.suppress(OSError), os.scandir() as entries:
        for entry in entries:
            if entry.is_file():
                found[entry.name] = (entry.stat().st_mtime_ns, entry.stat().st_size)
    return found
