"""From a watch to places that show numbers: what is new since the last look, handed to writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from throughtime.measurement import Watch
from throughtime.measurement.gradient_record import GradientRecord

__all__ = ["PREFIX", "Feed", "Writer", "probe_scalars"]

PREFIX = "throughtime/"
"""What the names of all numbers begin with where they stand among those of others."""


class Writer(Protocol):
    """A place to write to. Steps are those of the optimizer, from 1."""

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        """The known numbers of one sampled step: loss, norms, learning rate (see `WatchRecord.samples`)."""

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        """The gradient through time was measured after `step`; `probes` holds it and all before it, by step."""

    def close(self) -> None:
        """All is written."""


class Feed:
    """Hands what a watch has seen to writers, once.

    Args:
        watched: the watch; it may be running.
        writers: where to.

    Example:
        >>> import tempfile, throughtime, torch
        >>> from pathlib import Path
        >>> from throughtime.integrations.json_lines import JsonLines
        >>> rnn = torch.nn.RNN(3, 8)
        >>> optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "watch.jsonl")
        ...     watched = throughtime.watch(rnn, optimizer, every=5, max_overhead=None)
        ...     with watched, Feed(watched, [JsonLines(path)]) as feed:
        ...         for step in range(10):
        ...             value = rnn(torch.randn(20, 4, 3))[0].square().mean()
        ...             optimizer.zero_grad()
        ...             value.backward()
        ...             optimizer.step()
        ...             feed.update()
        ...     len(path.read_text().splitlines())
        12
    """

    def __init__(self, watched: Watch, writers: Sequence[Writer]) -> None:
        self._watched = watched
        self._writers = tuple(writers)
        self._last_sample = self._last_probe = 0

    def update(self) -> None:
        """Write what is new. It costs as much as a record does, so call it every 50 steps or so."""
        if not self._writers:
            return
        record = self._watched.record
        for sample in record.samples:
            step = int(sample["step"] or 0)
            if step > self._last_sample:
                values = {name: value for name, value in sample.items() if name != "step" and value is not None}
                for writer in self._writers:
                    writer.write_sample(step, values)
                self._last_sample = step
        probes = record.records
        for step in probes:
            if step > self._last_probe:
                so_far = {other: probes[other] for other in probes if other <= step}
                for writer in self._writers:
                    writer.write_probe(step, so_far)
                self._last_probe = step

    def close(self) -> None:
        """Write what is new, and close the writers."""
        self.update()
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def probe_scalars(record: GradientRecord) -> dict[str, float]:
    """The numbers of a probe that make a curve over training."""
    found = {"reach_steps": record.reach, "decay_per_step": record.decay_per_step}
    return {name: float(value) for name, value in found.items() if value is not None}
