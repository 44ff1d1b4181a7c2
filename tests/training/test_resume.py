"""A run that is killed at any moment and resumed ends bit for bit as one that never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiny import TINY, made_text

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
@pytest.mark.parametrize(("model", "moments"), [("recurrent", 20), ("cloze", 4)])
def test_killed_and_resumed_is_as_never_killed(tmp_path: Path, model: str, moments: int) -> None:
    (tmp_path / "book.txt").write_text(made_text(600), encoding="utf-8")
    choices: dict[str, Any] = TINY | {"model": model, "epochs": 2, "dropout": 0.2, "sample_size": 8}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(moments)],
        env=os.environ | {"CHOICES": json.dumps(choices), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differing"] == []
    assert found["tensors"] > 10
    assert len(found["killed_at"]) > moments // 2
    assert len(set(found["killed_at"])) > 2
