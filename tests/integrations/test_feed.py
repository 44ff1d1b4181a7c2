"""Everything that a watch saw is handed on once, in order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from integrations.watched import NUM_STEPS, PROBED, train_with
from throughtime.integrations import JsonLines
from throughtime.measurement import GradientRecord


class Memory:
    """A writer that keeps what it is told."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, Mapping[str, float]]] = []
        self.probes: list[tuple[int, list[int]]] = []
        self.closed = 0

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        self.samples.append((step, values))

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        self.probes.append((step, list(probes)))

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("update_every", [1, 3, 100])
def test_all_is_handed_on_once_and_in_order(update_every: int) -> None:
    memory = Memory()
    watched = train_with(memory, update_every=update_every)
    assert [step for step, _ in memory.samples] == list(range(1, NUM_STEPS + 1))
    assert memory.probes == [(3, [3]), (6, [3, 6])]
    assert memory.closed == 1
    for (_, values), sample in zip(memory.samples, watched.record.samples, strict=True):
        assert dict(values) == {name: value for name, value in sample.items() if name != "step"}


def test_json_lines_hold_samples_and_probes(tmp_path: Path) -> None:
    watched = train_with(JsonLines(tmp_path / "new" / "watch.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "new" / "watch.jsonl").read_text().splitlines()]
    samples = [line for line in lines if "gradient_norm" in line]
    probes = [line for line in lines if "log10_gradient" in line]
    assert tuple(samples) == watched.record.samples
    assert [line["step"] for line in probes] == PROBED
    for line in probes:
        record = watched.records[line["step"]]
        assert line["log10_gradient"] == list(record.log10_gradient)
        assert line["reach_steps"] == record.reach
