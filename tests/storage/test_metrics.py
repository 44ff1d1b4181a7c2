from __future__ import annotations

import os
from pathlib import Path

import pytest

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.metrics import MetricsFile

LINES = [{"step": step, "loss": 1 / step, "phase": "train"} for step in (1, 2, 3, 10)]


@pytest.fixture
def metrics(tmp_path) -> MetricsFile:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for line in LINES:
        file.append(line)
    return file


def test_lines_come_back_in_order_and_exactly(metrics):
    assert metrics.read() == LINES
    assert metrics.path.read_bytes().count(b"\n") == len(LINES)


def test_a_file_that_does_not_exist_yet_is_empty(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.truncate_after(3)
    assert file.read() == []
    assert not file.path.exists()


def test_a_line_reaches_the_file_in_one_write(metrics):
    """Another process must never see half a line."""
    reader, writer = os.pipe()
    through_pipe = MetricsFile(Path(f"/dev/fd/{writer}"))
    if not through_pipe.path.exists():
        pytest.skip("no /dev/fd on this platform")
    through_pipe.append({"step": 1, "text": "x" * 3000})
    os.close(writer)
    assert os.read(reader, 100_000) == b'{"step": 1, "text": "' + b"x" * 3000 + b'"}\n'
    os.close(reader)


def test_truncation_keeps_the_rest_byte_for_byte(metrics):
    whole = metrics.path.read_bytes()
    metrics.truncate_after(10)
    assert metrics.path.read_bytes() == whole
    metrics.truncate_after(2)
    assert metrics.read() == LINES[:2]
    assert whole.startswith(metrics.path.read_bytes())
    metrics.truncate_after(0)
    assert metrics.path.read_bytes() == b""


def test_a_line_without_a_step_is_kept(metrics):
    metrics.append({"note": "resumed"})
    metrics.truncate_after(1)
    assert metrics.read() == [LINES[0], {"note": "resumed"}]


def test_a_line_torn_at_any_byte_is_ignored_then_removed(metrics):
    whole = metrics.path.read_bytes()
    before = whole.rindex(b"\n", 0, -1) + 1
    for end in range(before, len(whole)):
        metrics.path.write_bytes(whole[:end])
        assert metrics.read() == LINES[:-1]
        metrics.truncate_after(100)
        assert metrics.path.read_bytes() == whole[:before]
        metrics.append(LINES[-1])
        assert metrics.path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\n", b"{\n", b"3\n", b"\xff\n", b"\x00\x00\n"])
def test_a_damaged_line_is_named(metrics, damage):
    metrics.path.write_bytes(damage + metrics.path.read_bytes())
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1 is damaged"):
        metrics.read()
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1 is damaged"):
        metrics.truncate_after(1)


def test_a_number_that_is_not_finite_is_refused(metrics):
    with pytest.raises(NonFiniteError, match=r"metrics\.jsonl was not written"):
        metrics.append({"step": 11, "loss": float("nan")})
    assert metrics.read() == LINES


def test_a_full_disk_is_one_line_and_costs_no_whole_line(metrics, largest_file):
    size = metrics.path.stat().st_size
    with largest_file(size + 10), pytest.raises(RunError, match=r"while writing .*metrics\.jsonl: free some"):
        metrics.append(LINES[0])
    assert metrics.path.stat().st_size == size + 10  # the kernel took ten bytes of the line
    assert metrics.read() == LINES


def test_sync_flushes_the_file(metrics, monkeypatch):
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    metrics.sync()
    assert flushed == [metrics.path.stat().st_ino]
