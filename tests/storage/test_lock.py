from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from throughtime.errors import RunError
from throughtime.storage.atomic import write_bytes
from throughtime.storage.lock import RunLock

HOLD = """
import sys
from pathlib import Path
from throughtime.storage.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def enter(folder: Path) -> None:
    with RunLock(folder):
        pass


def test_a_second_process_is_refused_with_the_holder(tmp_path, holder):
    with pytest.raises(RunError) as caught:
        enter(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path} is in use by process {holder.pid} on host {socket.gethostname()} since 2")
    assert line.endswith(": wait for it or choose another --out")


def test_the_lock_is_free_when_its_block_ends(tmp_path, holder):
    holder.communicate()
    assert holder.returncode == 0
    enter(tmp_path)


def test_the_lock_is_free_after_sigkill(tmp_path, holder):
    holder.kill()
    holder.wait()
    with RunLock(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} "):
        enter(tmp_path)


def test_the_same_process_is_refused_too(tmp_path):
    lock = RunLock(tmp_path)
    with lock:
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
            lock.__enter__()
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
            enter(tmp_path)
    with lock:
        pass


def test_a_holder_that_has_not_signed_yet_is_another_process(tmp_path, holder):
    (tmp_path / "run.lock.json").unlink()
    with pytest.raises(RunError, match="in use by another process: wait"):
        enter(tmp_path)
    (tmp_path / "run.lock.json").write_text("[]")
    with pytest.raises(RunError, match="in use by another process: wait"):
        enter(tmp_path)


def test_the_lock_is_freed_when_the_block_or_the_signing_fails(tmp_path, largest_file):
    def fail() -> None:
        with RunLock(tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with largest_file(10), pytest.raises(RunError, match="free some and resume"):
        enter(tmp_path)
    enter(tmp_path)
    assert not (tmp_path / "run.lock.json").exists()


def test_entering_removes_what_a_killed_process_left(tmp_path):
    (tmp_path / ".tmp-left").write_bytes(b"")
    write_bytes(tmp_path / "kept", b"")
    enter(tmp_path)
    assert not (tmp_path / ".tmp-left").exists()
    assert (tmp_path / "kept").exists()


def test_a_read_only_folder_is_refused_in_one_line(read_only_folder):
    with pytest.raises(RunError, match=r"cannot write .*: permission denied"):
        enter(read_only_folder)


def test_an_absent_folder_is_refused_and_not_made(tmp_path):
    with pytest.raises(RunError, match="absent is not a folder"):
        enter(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
