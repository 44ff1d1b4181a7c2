"""Files and folders that appear whole or not at all.

Everything is written under a temporary name beside its final one, flushed to the disk, renamed, and the rename itself
is flushed: a process killed at any moment, or a machine that loses power, leaves the old content or the new, never a
mixture. What such a process leaves behind starts with `.tmp-` and is removed by `sweep`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from throughtime.storage.disk_errors import writing
from throughtime.storage.json_text import Json, encode_json

__all__ = [
    "TEMPORARY_PREFIX",
    "make_folder",
    "new_folder",
    "remove_folder",
    "sweep",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY_PREFIX = ".tmp-"


def write_bytes(path: Path, data: bytes) -> None:
    """Give the file `path` the content `data`, all of it or none.

    Raises:
        RunError: if it cannot be written; a file that was there before is untouched.
    """
    temporary = _temporary_beside(path)
    with writing(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Give the file `path` the content `text` in UTF-8, all of it or none.

    What came in as bytes that are no UTF-8 (in a file's name, say, as a lone surrogate) goes out as these bytes.

    Raises:
        RunError: if it cannot be written; a file that was there before is untouched.
    """
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_json(path: Path, value: Json) -> None:
    """Give the file `path` the JSON of `value`, indented, keys in the order given, all of it or none.

    Raises:
        RunError: if it cannot be written; a file that was there before is untouched.
        NonFiniteError: if a number in `value` is NaN or infinite.
    """
    write_bytes(path, encode_json(value, target=path, indent=1) + b"\n")


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block ends, and vanishes when the block fails.

    The block may write files in any way: they are flushed to the disk before the folder gets its name.

    Args:
        final: the folder to make; its parent must exist, and it must not (or be empty).

    Yields:
        The folder to write into, beside `final` and thus on the same file system.

    Raises:
        RunError: if anything in the block or in the renaming meets an error of the file system.
    """
    temporary = _temporary_beside(final)
    with writing(final):
        try:
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                _sync(path)
            _sync(temporary)
            temporary.rename(final)
            _sync(final.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are absent, each of them flushed to the disk.

    Raises:
        RunError: if a folder cannot be made, or `path` is a file.
    """
    with writing(path):
        absent = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in absent:
            _sync(folder.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder in one step: it loses its name first, so nobody ever sees half of it.

    Raises:
        RunError: if it cannot be removed.
    """
    doomed = _temporary_beside(path)
    with writing(path):
        path.rename(doomed)
        shutil.rmtree(doomed)


def sweep(folder: Path) -> None:
    """Remove what a killed process left in `folder`. Only for the one who holds the run's lock.

    Raises:
        RunError: if something cannot be removed.
    """
    with writing(folder):
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows offers no handle on a folder; NTFS journals its names by itself.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
