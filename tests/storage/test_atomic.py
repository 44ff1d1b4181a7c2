from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.atomic import (
    make_folder,
    new_folder,
    remove_folder,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from throughtime.storage.disk_errors import writing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_and_replaced(tmp_path):
    write_bytes(tmp_path / "a", b"\x00\xff")
    write_text(tmp_path / "b", "né\n")
    write_json(tmp_path / "c", {"z": 1, "a": (0.1, None)})
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "b").read_bytes() == b"n\xc3\xa9\n"
    assert (tmp_path / "c").read_text() == '{\n "z": 1,\n "a": [\n  0.1,\n  null\n ]\n}\n'
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_file_gets_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, largest_file):
    write_bytes(tmp_path / "a", b"old")
    with largest_file(1000), pytest.raises(RunError, match=r"too large while writing .*a: free some and resume"):
        write_bytes(tmp_path / "a", bytes(2000))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_json_that_is_refused_touches_nothing(tmp_path):
    write_json(tmp_path / "a", 1)
    with pytest.raises(NonFiniteError):
        write_json(tmp_path / "a", float("nan"))
    assert (tmp_path / "a").read_text() == "1\n"


@pytest.mark.parametrize(
    "write", [lambda path: write_bytes(path, b""), make_folder, lambda p: new_folder(p).__enter__()]
)
def test_a_read_only_folder_is_refused_in_one_line(read_only_folder, write):
    with pytest.raises(RunError, match=r"cannot write .*new: permission denied; choose a folder") as caught:
        write(read_only_folder / "new")
    assert "\n" not in str(caught.value)


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "done") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".tmp-")
        (folder / "a").write_bytes(b"1")
        (folder / "deep").mkdir()
        (folder / "deep" / "b").write_bytes(b"2")
        assert not (tmp_path / "done").exists()
    assert names(tmp_path) == ["done"]
    assert (tmp_path / "done" / "deep" / "b").read_bytes() == b"2"

    def fail() -> None:
        with new_folder(tmp_path / "failed") as folder:
            (folder / "a").write_bytes(b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["done"]


def test_everything_is_flushed_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        calls.extend(("fsync", path.name) for path in (tmp_path, *tmp_path.rglob("*")) if path.stat().st_ino == inode)
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    with new_folder(tmp_path / "done") as folder:
        (folder / "a").write_bytes(b"1")
        (folder / "deep").mkdir()
        (folder / "deep" / "b").write_bytes(b"2")
    at = calls.index(("rename", "done"))
    assert {("fsync", "a"), ("fsync", "deep"), ("fsync", "b"), ("fsync", folder.name)} == set(calls[:at])
    assert calls[at + 1 :] == [("fsync", tmp_path.name)]


def test_a_folder_that_is_in_use_is_not_replaced(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "a").write_bytes(b"old")
    with pytest.raises(RunError, match="used: directory not empty"), new_folder(tmp_path / "used") as folder:
        (folder / "a").write_bytes(b"new")
    assert (tmp_path / "used" / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["used"]


def test_folders_are_made_with_their_parents_and_removed(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="file exists"):
        make_folder(tmp_path / "file")
    remove_folder(tmp_path / "a")
    assert names(tmp_path) == ["file"]


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "a").write_bytes(b"")
    (tmp_path / ".tmp-file").write_bytes(b"")
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept", target_is_directory=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".tmp-deep").write_bytes(b"")
    sweep(tmp_path)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == [".tmp-deep"]


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (
            errno.ENOSPC,
            "no space left on device while writing x: free some and resume; what was saved before is intact",
        ),
        (errno.EROFS, "cannot write x: read-only file system; choose a folder that you may write to"),
        (errno.ENAMETOOLONG, "cannot write x: file name too long"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(number, line):
    with pytest.raises(RunError) as caught, writing(Path("x")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == line


def test_importing_the_package_does_not_import_torch():
    program = "import sys, throughtime.storage; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
