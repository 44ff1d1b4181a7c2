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

HERE = Path(__file__).parent


def done(script: str, *arguments: str, choices: dict[str, Any]) -> dict[str, Any]:
    """What a script printed."""
    ended = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=os.environ | {"CHOICES": json.dumps(choices), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
@pytest.mark.parametrize(("model", "moments"), [("recurrent", 20), ("cloze", 4)])
def test_killed_and_resumed_is_as_never_killed(tmp_path: Path, model: str, moments: int) -> None:
    (tmp_path / "book.txt").write_text(made_text(600), encoding="utf-8")
    choices: dict[str, Any] = TINY | {"model": model, "epochs": 2, "dropout": 0.2, "sample_size": 8}
    found = done("kill_and_resume.py", str(tmp_path), str(moments), choices=choices)
    assert found["differing"] == []
    assert found["tensors"] > 10
    assert len(found["killed_at"]) > moments // 2
    assert len(set(found["killed_at"])) > 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
def test_killed_at_any_file_operation_of_a_save_it_ends_as_never_killed(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(made_text(150), encoding="utf-8")
    found = done("kill_in_save.py", str(tmp_path), choices=TINY | {"steps": 40, "dropout": 0.2, "sample_size": 8})
    assert found["differing"] == []
    assert len(found["goes_on_from"]) > 30
    before, *_, after = found["goes_on_from"]
    assert 0 < before < after < 40
    assert set(found["goes_on_from"]) == {before, after}
