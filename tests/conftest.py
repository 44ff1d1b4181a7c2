"""What many tests share: a made text in a file, and the same random numbers at the beginning of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tiny import made_text

# A machine under load is not a failure; nothing here is a timing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A file of made text."""
    path = tmp_path / "book.txt"
    path.write_text(made_text(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _threads_and_random_state() -> Iterator[None]:
    """Each test begins with the same random numbers, and leaves torch's threads as it found them."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
