"""Ways to run out of memory that look like each of the real ones."""

from __future__ import annotations

from typing import NoReturn

import pytest
import torch

__all__ = ["ways_to_run_out"]


def raising(kind: type[Exception]) -> NoReturn:
    raise kind("no more")


ways_to_run_out = pytest.mark.parametrize(
    "run_out",
    [lambda: raising(MemoryError), lambda: raising(torch.OutOfMemoryError), lambda: torch.empty(10**15)],
    ids=["python", "accelerator", "allocator"],
)
