"""The lock of a run folder: one process writes a run, and a second one is told which."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from throughtime.errors import RunError
from throughtime.storage.atomic import sweep, write_json
from throughtime.storage.disk_errors import writing
from throughtime.storage.json_text import read_json

__all__ = ["HOLDER_NAME", "LOCK_NAME", "RunLock"]

LOCK_NAME = "run.lock"
HOLDER_NAME = "run.lock.json"


class RunLock:
    """Exclusive right to write a run folder, as a context manager that never waits.

    The kernel holds the lock and frees it with its process, however that ends. The holder's process id, host and start
    time are written beside it, for the error alone: what counts is the kernel's lock.

    Raises:
        RunError: on entering, if the folder is absent, not writable, or held, be it by this process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, RunLock(Path(folder)):
        ...     with RunLock(Path(folder)):
        ...         pass  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        throughtime.errors.RunError: ... is in use by process ...: wait for it or choose another --out
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # thread_local=False: a lock belongs to the process, and is freed by whichever thread leaves the block.
        self._lock = FileLock(folder / LOCK_NAME, timeout=0, thread_local=False)

    def __enter__(self) -> Self:
        if self._lock.is_locked:  # the library would only count: a second block of one lock is a second writer
            raise self._refusal()
        with writing(self._folder):
            if not self._folder.is_dir():  # the library would make it
                raise RunError(f"{self._folder} is not a folder: expected a run")
            try:
                self._lock.acquire()
            except Timeout as held:
                raise self._refusal() from held
        try:
            sweep(self._folder)
            self._write_holder()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a signature left behind is harmless: the next holder signs over it
            (self._folder / HOLDER_NAME).unlink()
        self._lock.release()

    def _write_holder(self) -> None:
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(self._folder / HOLDER_NAME, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})

    def _refusal(self) -> RunError:
        try:
            holder = read_json(self._folder / HOLDER_NAME)
            who = f"process {holder['pid']} on host {holder['host']} since {holder['since']}"
        except (RunError, KeyError, TypeError):  # it has the lock but has not signed yet
            who = "another process"
        return RunError(f"{self._folder} is in use by {who}: wait for it or choose another --out")
