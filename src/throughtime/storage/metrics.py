"""Metrics of a run: JSON lines, one a logged step, appended as training goes.

A line counts once its newline is there; what a killed process left after the last newline is ignored by `read` and
removed by `truncate_after`, which every resume calls before it appends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from throughtime.errors import RunError
from throughtime.storage.atomic import write_bytes
from throughtime.storage.disk_errors import reading, writing
from throughtime.storage.json_text import Json, encode_json

__all__ = ["MetricsFile"]


@dataclass(frozen=True)
class MetricsFile:
    """The file of a run's metrics; it need not exist yet.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     metrics = MetricsFile(Path(folder, "metrics.jsonl"))
        ...     metrics.append({"step": 1, "loss": 9.5})
        ...     metrics.append({"step": 2, "loss": 9.0})
        ...     metrics.truncate_after(1)
        ...     metrics.read()
        [{'step': 1, 'loss': 9.5}]
    """

    path: Path

    def append(self, line: Mapping[str, Json]) -> None:
        """Add one line, in one write.

        Raises:
            RunError: if it cannot be written.
            NonFiniteError: if a number in `line` is NaN or infinite.
        """
        data = encode_json(line, target=self.path) + b"\n"
        with writing(self.path), self.path.open("ab") as file:
            file.write(data)

    def sync(self) -> None:
        """Flush all lines to the disk: call it before saving a checkpoint, which must never outlive its metrics.

        Raises:
            RunError: if the disk refuses.
        """
        with writing(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())

    def truncate_after(self, step: int) -> None:
        """Drop the lines whose "step" is greater than `step`, and a torn last line; the rest stays byte for byte.

        Raises:
            RunError: if a line is damaged, or the file cannot be rewritten.
        """
        kept = b"".join(raw for raw, line in self._lines() if line.get("step", step) <= step)
        if self.path.exists() and kept != self.path.read_bytes():
            write_bytes(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """All whole lines, in order; none if the file does not exist.

        Raises:
            RunError: if a line before the last is damaged, naming it.
        """
        return [line for _, line in self._lines()]

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        with reading(self.path):
            content = self.path.read_bytes() if self.path.exists() else b""
        *whole, _torn = content.split(b"\n")
        for number, raw in enumerate(whole, start=1):
            try:
                yield raw + b"\n", dict(json.loads(raw))
            except (TypeError, ValueError) as error:
                raise RunError(f"{self.path}, line {number} is damaged: {error}; remove that line") from error
