"""Records: what a measurement found, as a frozen value that reads from and writes to JSON."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from throughtime.errors import InputError, RunError
from throughtime.storage.atomic import write_json
from throughtime.storage.drawing import drawn
from throughtime.storage.json_text import Json, read_json

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """Base of all records: a frozen dataclass of numbers, text, tuples, and dicts of these with text as keys.

    Attributes:
        record_kind: the name of this type of record in a file.
        schema_version: raised whenever a field changes its name or meaning.

    Example:
        >>> import tempfile
        >>> @dataclass(frozen=True)
        ... class Reach(Record):
        ...     record_kind: ClassVar[str] = "reach"
        ...     schema_version: ClassVar[int] = 1
        ...     steps: int
        ...     log10_gradient: tuple[float, ...]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Reach(21, (0.0, -0.5)).save(Path(folder, "reach.json"))
        ...     Reach.load(Path(folder, "reach.json"))
        Reach(steps=21, log10_gradient=(0.0, -0.5))
    """

    record_kind: ClassVar[str]
    schema_version: ClassVar[int]

    def to_json(self) -> dict[str, Json]:
        """The record as JSON values: kind, schema version, then every field in order."""
        content = {field.name: _plain(getattr(self, field.name), field.name) for field in fields(self)}
        return {"kind": self.record_kind, "schema_version": self.schema_version, **content}

    def save(self, path: str | Path) -> None:
        """Write the record to a file, all of it or nothing.

        Raises:
            RunError: if it cannot be written.
            NonFiniteError: if a number in it is NaN or infinite.
        """
        write_json(Path(path), self.to_json())

    def plot(self) -> Any:
        """Pictures of the record, to be shown in a notebook or saved: `record.plot().save("reach.html")`.

        Raises:
            InputError: if there is nothing in it to draw.
        """
        return drawn(self)

    def _repr_html_(self) -> str | None:
        """The pictures, for a notebook; None, so that the text is shown, where there is nothing to draw."""
        try:
            html: str = drawn(self)._repr_html_()
        except InputError:
            return None
        return html

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record of this type, tuples restored where a field is a tuple.

        Raises:
            RunError: if the file is absent or damaged, or holds another kind or version.
        """
        path = Path(path)
        content = read_json(path)
        if not isinstance(content, dict) or "kind" not in content:
            raise RunError(f"{path} is not a record: expected a JSON object with a kind")
        kind, version = content.pop("kind"), content.pop("schema_version", None)
        if kind != cls.record_kind:
            raise RunError(f"{path} holds a record of kind {kind!r}: expected {cls.record_kind!r}")
        if version != cls.schema_version:
            raise RunError(
                f"{path} has schema version {version}, this throughtime reads {cls.schema_version}: measure again"
            )
        _check_names(cls, content, path)
        hints = typing.get_type_hints(cls)
        try:
            return cls(**{name: _restored(value, hints[name]) for name, value in content.items()})
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error


def _check_names(cls: type[Record], content: Mapping[str, object], path: Path) -> None:
    known = {field.name for field in fields(cls)}
    needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    for name in sorted(needed - content.keys()):
        raise RunError(f"{path} is damaged: a {cls.record_kind} record needs the field {name!r}")
    for name in sorted(content.keys() - known):
        raise RunError(f"{path} is damaged: a {cls.record_kind} record has no field {name!r}")


def _plain(value: object, name: str) -> Json:
    """`value` as JSON values; anything that would come back as something else is our own mistake."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, name) for key, item in value.items()}
    raise TypeError(f"the field {name!r} of a record holds a {type(value).__name__}: use numbers, text, tuples, dicts")


def _restored(value: Any, hint: Any) -> Any:
    """`value` as read from JSON, with its lists made tuples, deep down, as the annotation `hint` has them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _restored(value, next(argument for argument in arguments if argument is not type(None)))
    if isinstance(value, list):
        return tuple(_restored(item, h) for item, h in zip(value, _item_hints(arguments, len(value)), strict=True))
    if isinstance(value, dict):
        item_hint = arguments[1] if arguments else Any
        return {key: _restored(item, item_hint) for key, item in value.items()}
    return value


def _item_hints(arguments: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    if not arguments:
        return (Any,) * length
    return arguments[:1] * length if arguments[-1] is Ellipsis else arguments
