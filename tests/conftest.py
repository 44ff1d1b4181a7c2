"""What many tests share: a made text in a file, real failures of a disk, and random numbers that begin alike."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tiny import made_text

# A machine under load is not a failure; nothing here is a timing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Side by side, every worker has its share of the cores: with more threads than cores, each barrier waits.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    SHARE = max(1, (os.cpu_count() or 1) // WORKERS)
    os.environ["OMP_NUM_THREADS"] = str(SHARE)
    torch.set_num_threads(SHARE)

NOBODY = 65534


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A file of made text."""
    path = tmp_path / "book.txt"
    path.write_text(made_text(), encoding="utf-8")
    return path


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this test may read but not write. For root, nothing is read-only: it becomes nobody meanwhile."""
    folder = Path(tempfile.mkdtemp())
    (folder / "recipe.toml").write_text('cell = "lstm"\n')
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which the kernel refuses every file beyond a size, in the middle of the write."""
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this platform")

    @contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture(autouse=True)
def _threads_and_random_state() -> Iterator[None]:
    """Each test begins with the same random numbers, and leaves torch's threads as it found them."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
