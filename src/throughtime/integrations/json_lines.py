"""JSON lines: a line a sampled step and a line a probe, for whatever reads such files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from throughtime.measurement.gradient_record import GradientRecord
from throughtime.storage import MetricsFile
from throughtime.storage.atomic import make_folder

__all__ = ["JsonLines"]


class JsonLines:
    """Appends to a file; a line is written at once or not at all.

    A sampled step gives `{"step": 5, "loss": 0.7, "gradient_norm": 1.2, ...}`, a probe `{"step": 5, "reach_steps": 21,
    "decay_per_step": 0.81, "log10_gradient": [0.0, -0.1, ...]}`, where null is a gradient of exactly zero.

    Args:
        path: the file; its folder is made where it is absent.

    Raises:
        RunError: if it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        make_folder(Path(path).parent)
        self._file = MetricsFile(Path(path))

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._file.append({"step": step, **values})

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        """See `Writer`."""
        record = probes[step]
        self._file.append(
            {
                "step": step,
                "reach_steps": record.reach,
                "decay_per_step": record.decay_per_step,
                "log10_gradient": list(record.log10_gradient),
            }
        )

    def close(self) -> None:
        """Nothing is left to write."""
