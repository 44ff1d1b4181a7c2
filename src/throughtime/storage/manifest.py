"""Manifests: a folder that can say whether it is still what was written.

`manifest.json` holds the size and SHA-256 of every file, and the SHA-256 of these entries themselves. It is valid in
one spelling only, byte for byte, so a flipped bit is found wherever it strikes, the manifest included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.disk_errors import reading
from throughtime.storage.json_text import Json, encode_json

__all__ = ["MANIFEST_NAME", "seal", "verify"]

MANIFEST_NAME = "manifest.json"


def seal(folder: Path) -> None:
    """Write the manifest of all files now in `folder`. Call it last, inside `atomic.new_folder`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = Path(name, "words.txt").write_text("through time")
        ...     seal(Path(name))
        ...     verify(Path(name))
        ...     _ = Path(name, "words.txt").write_text("through lime")
        ...     verify(Path(name))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        throughtime.errors.RunError: ...words.txt is damaged: its SHA-256 is not the one in manifest.json
    """
    entries: dict[str, Json] = {name: _entry(folder / name) for name in sorted(_file_names(folder))}
    (folder / MANIFEST_NAME).write_bytes(_render(entries))


def verify(folder: Path) -> None:
    """Compare a sealed folder with its manifest.

    Raises:
        RunError: if a file is damaged, missing, extra or unreadable, naming it.
    """
    manifest = folder / MANIFEST_NAME
    entries = _entries(manifest)
    with reading(folder):
        present = _file_names(folder)
    for name in sorted(entries.keys() - present):
        raise RunError(f"{folder / name} is missing: {MANIFEST_NAME} lists it")
    for name in sorted(present - entries.keys()):
        raise RunError(f"{folder / name} is extra: {MANIFEST_NAME} does not list it")
    for name, expected in entries.items():
        _compare(folder / name, expected)


def _entries(manifest: Path) -> dict[str, dict[str, Json]]:
    with reading(manifest):
        content = manifest.read_bytes()
    try:
        entries: dict[str, dict[str, Json]] = json.loads(content)["files"]
        whole = _render(entries) == content
    except (KeyError, TypeError, ValueError, RecursionError, NonFiniteError):  # the damage has struck the JSON itself
        whole = False
    if not whole:
        raise RunError(f"{manifest} is damaged: it does not match its own SHA-256")
    return entries


def _compare(path: Path, expected: dict[str, Json]) -> None:
    with reading(path):
        found = _entry(path)
    if found["bytes"] != expected["bytes"]:
        raise RunError(f"{path} is damaged: {found['bytes']} bytes, {expected['bytes']} in {MANIFEST_NAME}")
    if found != expected:
        raise RunError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST_NAME}")


def _file_names(folder: Path) -> set[str]:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return files - {MANIFEST_NAME}


def _entry(path: Path) -> dict[str, Json]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _render(entries: Mapping[str, Json]) -> bytes:
    own = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    content: Json = {"files": entries, "sha256": own}
    return encode_json(content, target=Path(MANIFEST_NAME), indent=1) + b"\n"
