"""What was written for TensorBoard, by either library, read back from its files."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integrations.event_files import written
from integrations.watched import NUM_STEPS, PROBED, train_with
from throughtime.errors import InputError
from throughtime.integrations import TensorBoard, heat_map

pytest.importorskip("tensorboardX", reason="tensorboardX, which reads the files too, is not installed")
Image = pytest.importorskip("PIL.Image", reason="pillow is not installed: extra 'tensorboard'")

LIBRARIES = [
    "tensorboardX",
    pytest.param(
        "torch.utils.tensorboard",
        marks=pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed: extra 'dev'"),
    ),
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_scalars_and_the_heat_map(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the two that is there writes to a folder."""
    if library != "tensorboardX":
        monkeypatch.setitem(sys.modules, "tensorboardX", None)
    watched = train_with(TensorBoard(tmp_path))
    monkeypatch.undo()
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


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_writer_that_is_handed_over_stays_open(library: str, tmp_path: Path) -> None:
    open_writer: Callable[[str], Any] = import_module(library).SummaryWriter
    with open_writer(str(tmp_path)) as writer:
        train_with(TensorBoard(writer))
        writer.add_scalar("own", 1.0, 1)
    assert len(written(tmp_path)["own"]) == 1
    assert len(written(tmp_path)["throughtime/loss"]) == NUM_STEPS


def test_without_either_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'throughtime\[tensorboard\]'"):
        TensorBoard(tmp_path / "not made")
    assert not (tmp_path / "not made").exists()
