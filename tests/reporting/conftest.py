"""One small run, whose text holds markup, and one browser for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import throughtime
from throughtime.errors import InputError
from throughtime.reporting.files import browser
from throughtime.workflow import diagnose_run
from tiny import TINY, made_text

CHOICES: dict[str, Any] = TINY | {"hidden_size": 12, "num_layers": 2, "learning_rate": 0.02, "window": 8}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two layers, diagnosed, in a folder whose name is markup."""
    folder = tmp_path_factory.mktemp("reports")
    lines = made_text(500).splitlines()
    for place in range(0, len(lines), 25):
        lines.insert(place, "It said <b>bold</b> & <script>window.hacked=1</script> quickly.")
    (folder / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    run = throughtime.train(folder / "book.txt", out=folder / "a <i>run</i>".replace("/", "∕"), epochs=2, **CHOICES)
    diagnose_run(run.path)
    return run.path


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """Chromium without a window; tests that ask for it are skipped where there is none."""
    chromium = browser()
    try:
        found = chromium.__enter__()
    except InputError as error:
        pytest.skip(str(error))
    yield found
    chromium.__exit__(None, None, None)
