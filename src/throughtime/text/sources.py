"""Where a text comes from: files, folders, patterns and standard input, with a plain error for each that cannot be."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from throughtime.errors import InputError

__all__ = ["PARTS", "STANDARD_INPUT", "SUFFIXES", "Source", "find_sources"]

PARTS = ("train", "valid", "test")
STANDARD_INPUT = "-"
SUFFIXES = (".txt", ".text", ".md", ".rst", ".tok")
"""What the name of a text file inside a folder ends with, apart from `COMPRESSED`; no suffix at all will do too."""
COMPRESSED = ("", ".gz", ".xz", ".zst")

_SNIFFED_BYTES = 1024


@dataclass(frozen=True)
class Source:
    """One text to read.

    Attributes:
        path: the file; None is standard input.
        part: `train`, `valid` or `test` where the user has made the split; else None.
    """

    path: Path | None
    part: str | None = None

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return "standard input" if self.path is None else str(self.path)


def find_sources(paths: Sequence[str], *, tokenised: bool = False) -> list[Source]:
    """The texts that `paths` mean, in the order given; within a folder, in the order of their names.

    - a file is taken whatever its name;
    - a folder stands for the text files in it and below: those whose name ends in one of `SUFFIXES` (also with `.gz`,
      `.xz` or `.zst` after it) or has no suffix and no NUL byte at its start; hidden ones are skipped;
    - a folder given alone that holds `train.txt`, `valid.txt` and `test.txt` (or `.tok`, or compressed) is a split
      that the user has made: `.tok` files are preferred where `tokenised`, `.txt` files otherwise;
    - a pattern (`books/**/*.txt`) stands for what it matches; `-` is standard input; what is named twice is read once.

    Args:
        paths: as the user gave them; at least one.
        tokenised: which form of a split to prefer.

    Raises:
        InputError: if a path is missing (the nearest name there is offered), cannot be read, or holds no text file.
    """
    if len(paths) == 1 and paths[0] != STANDARD_INPUT and Path(paths[0]).is_dir():
        split = _given_split(Path(paths[0]), tokenised=tokenised)
        if split:
            return split
    found: dict[Path | None, Source] = {}
    for path in paths:
        for source in _expand(path):
            found.setdefault(source.path and source.path.resolve(), source)
    return list(found.values())


def _given_split(folder: Path, *, tokenised: bool) -> list[Source]:
    """The user's own split in `folder`, or nothing."""
    for suffix in (".tok", ".txt") if tokenised else (".txt", ".tok"):
        files = [_first_file(folder / f"{part}{suffix}{extra}" for extra in COMPRESSED) for part in PARTS]
        if all(files):
            return [Source(path, part) for path, part in zip(files, PARTS, strict=True)]
    return []


def _first_file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _expand(given: str) -> list[Source]:
    if given == STANDARD_INPUT:
        return [Source(None)]
    if "\0" in given or not given:
        raise InputError(f"{given!r} is no path: name a file, a folder, a pattern or - for standard input")
    path = Path(given).expanduser()
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return [Source(path)]
        # Path.glob takes no absolute pattern, and its * matches hidden files.
        matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(given) else []  # noqa: PTH207
    except OSError as error:
        raise InputError(f"cannot read {given}: {error.strerror}") from error
    if matches:
        # A pattern may match folders as well as the files in them; find_sources takes each file once.
        return [source for match in matches for source in (_expand(match) if Path(match).is_file() else _below(match))]
    if glob.has_magic(given):
        raise InputError(f"no file matches {given}: look at the pattern, or name the files")
    raise InputError(_missing(path))


def _missing(path: Path) -> str:
    """What to say about a path that is not there: how far it does exist, and what is there instead."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no {path}: the folder {folder} does not exist"
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1, cutoff=0.5)
    hint = f"did you mean {folder / close[0]}?" if close else f"look at what {folder.resolve()} holds"
    return f"there is no {path}: {hint}"


def _in_folder(folder: Path) -> list[Source]:
    sources = _below(folder)
    if not sources:
        raise InputError(
            f"the folder {folder} holds no text file: names must end in {', '.join(SUFFIXES)} (also with .gz, .xz or "
            ".zst) or have no suffix; name other files one by one, or by a pattern"
        )
    return sources


def _below(folder: Path | str) -> list[Source]:
    """The text files in a folder and below it, in the order of their names; links to folders are not followed."""
    sources: list[Source] = []
    try:
        for path in sorted(Path(folder).iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                sources += [] if path.is_symlink() else _below(path)
            elif path.is_file() and _is_text_name(path):
                sources.append(Source(path))
    except OSError as error:
        raise InputError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    return sources


def _is_text_name(path: Path) -> bool:
    name = path.name.lower()
    if any(name.endswith(suffix + extra) for suffix in SUFFIXES for extra in COMPRESSED):
        return True
    if path.suffix:
        return False
    with path.open("rb") as stream:
        return b"\0" not in stream.read(_SNIFFED_BYTES)
