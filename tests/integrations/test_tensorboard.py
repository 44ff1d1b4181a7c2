"""What was written for TensorBoard, read back from its files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from integrations.event_files import written
from integrations.watched import NUM_STEPS, PROBED, train_with
from throughtime.integrations import TensorBoard, heat_map

tensorboardX = pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: extra 'tensorboard'")  # noqa: N816
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed: extra 'tensorboard'")


def test_scalars_and_the_heat_map(tmp_path: Path) -> None:
    watched = train_with(TensorBoard(tmp_path))
    found = written(tmp_path)
    norms = [(step, value.simple_value) for step, value in found["throughtime/gradient_norm"]]
    assert [step for step, _ in norms] == list(range(1, NUM_STEPS + 1))
    assert [norm for _, norm in norms] == pytest.approx(
        [sample["gradient_norm"] for sample in watched.record.samples], rel=1e-6
    )
    assert [step for step, _ in found["throughtime/reach_steps"]] == PROBED
    images = found["throughtime/gradient_through_time"]
    assert [step for step, _ in images] == PROBED
    drawn = np.asarray(Image.open(io.BytesIO(images[-1][1].image.encoded_image_string)))
    np.testing.assert_array_equal(drawn, heat_map(watched.records))


def test_a_writer_that_is_handed_over_stays_open(tmp_path: Path) -> None:
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        train_with(TensorBoard(writer))
        writer.add_scalar("own", 1.0, 1)
    assert len(written(tmp_path)["own"]) == 1
    assert len(written(tmp_path)["throughtime/loss"]) == NUM_STEPS
