"""TensorBoard's event files, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["written"]


def written(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Every value in the event files, by its tag."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, Any]]] = {}
    for path in folder.glob("events.*"):
        content, place = path.read_bytes(), 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found
