"""What was written for Weights & Biases, offline, read back from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from integrations.watched import NUM_STEPS, PROBED, train_with
from throughtime.integrations import WeightsAndBiases, heat_map

wandb = pytest.importorskip("wandb", reason="wandb is not installed: extra 'wandb'")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed: extra 'wandb'")

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")]


def test_metrics_and_the_heat_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    run = wandb.init(mode="offline", project="test", dir=tmp_path)
    run.log({"own": 1.0})
    watched = train_with(WeightsAndBiases(run))
    folder = Path(run.dir)
    summary = dict(run.summary)
    run.finish()
    last = watched.record.samples[-1]
    assert summary["throughtime/step"] == NUM_STEPS
    assert summary["throughtime/gradient_norm"] == pytest.approx(last["gradient_norm"])
    assert summary["throughtime/reach_steps"] == watched.records[PROBED[-1]].reach
    assert summary["own"] == 1.0
    images = sorted(folder.rglob("*.png"), key=lambda path: int(path.name.split("_")[-2]))
    assert len(images) == len(PROBED)
    np.testing.assert_array_equal(np.asarray(Image.open(images[-1])), heat_map(watched.records))
