"""What the disk refuses, in one line that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from throughtime.errors import RunError

__all__ = ["reading", "writing"]

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A block that reads `path`.

    Raises:
        RunError: in place of every `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot read {path}: {_reason(error)}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`.

    Raises:
        RunError: in place of every `OSError`.

    Example:
        >>> with writing(Path("runs/book")):
        ...     raise OSError(errno.EACCES, "Permission denied")
        Traceback (most recent call last):
        ...
        throughtime.errors.RunError: cannot write runs/book: permission denied; choose a folder that you may write to
    """
    try:
        yield
    except OSError as error:
        reason = _reason(error)
        if error.errno in _NO_SPACE:
            remedy = "free some and resume; what was saved before is intact"
            raise RunError(f"{reason} while writing {path}: {remedy}") from error
        if error.errno in _NOT_ALLOWED:
            raise RunError(f"cannot write {path}: {reason}; choose a folder that you may write to") from error
        raise RunError(f"cannot write {path}: {reason}") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
