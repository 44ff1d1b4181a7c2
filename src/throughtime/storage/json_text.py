"""JSON as this package writes and reads it: finite numbers only, any text, one line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.disk_errors import reading

__all__ = ["Json", "encode_json", "read_json"]

Json: TypeAlias = Union[bool, int, float, str, "Sequence[Json]", "Mapping[str, Json]", None]


def encode_json(value: Json, *, target: Path, indent: int | None = None) -> bytes:
    """`value` as UTF-8 JSON, keys in the order given, without a final newline.

    Args:
        value: what to encode; numbers must be finite, because JSON has no word for NaN.
        target: the file it is meant for, named in the error.
        indent: spaces a level; None gives a single line.

    Returns:
        The text as bytes.

    Raises:
        NonFiniteError: if a number in `value` is NaN or infinite.

    Example:
        >>> encode_json({"loss": 0.5, "word": "né"}, target=Path("x.json")).decode()
        '{"loss": 0.5, "word": "né"}'
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise NonFiniteError(f"{target} was not written: a number in it is NaN or infinite ({error})") from error
    # A lone surrogate (a file name that is not UTF-8) has no UTF-8 form; Python's \udcxx is JSON's escape for it too.
    return text.encode("utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        RunError: if the file is absent, unreadable or not JSON.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: expected JSON, but {error}") from error
