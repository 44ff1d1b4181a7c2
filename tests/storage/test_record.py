from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar

import pytest

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.record import Record


@dataclass(frozen=True)
class Sample(Record):
    record_kind: ClassVar[str] = "sample"
    schema_version: ClassVar[int] = 2

    steps: int
    log10_gradient: tuple[float, ...]
    span: tuple[int, str]
    curves: dict[str, tuple[tuple[float, ...], ...]]
    note: str | None = None
    best: tuple[int, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Other(Record):
    record_kind: ClassVar[str] = "other"
    schema_version: ClassVar[int] = 1

    steps: int


SAMPLE = Sample(
    steps=21,
    log10_gradient=(0.0, -0.1, -300.25, 5e-324),
    span=(3, "words"),
    curves={"né": ((1.0,), ()), "": ()},
    best=(1, 2),
    extra={"deep": {"down": (1, (2.5, None, True))}},
)


def test_a_record_comes_back_exactly(tmp_path):
    SAMPLE.save(tmp_path / "a.json")
    assert Sample.load(tmp_path / "a.json") == SAMPLE
    content = json.loads((tmp_path / "a.json").read_bytes())
    assert list(content)[:3] == ["kind", "schema_version", "steps"]
    assert (content["kind"], content["schema_version"]) == ("sample", 2)
    SAMPLE.save(str(tmp_path / "b.json"))
    assert Sample.load(str(tmp_path / "b.json")) == SAMPLE


def test_a_record_is_frozen():
    with pytest.raises(FrozenInstanceError):
        SAMPLE.steps = 3


def rewrite(path, **changes):
    content = {**SAMPLE.to_json(), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value != "DROP"}))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"kind": "other"}, "holds a record of kind 'other': expected 'sample'"),
        ({"kind": "DROP"}, "is not a record"),
        ({"schema_version": 3}, "has schema version 3, this throughtime reads 2: measure again"),
        ({"schema_version": "DROP"}, "has schema version None"),
        ({"steps": "DROP"}, "is damaged: a sample record needs the field 'steps'"),
        ({"stepz": 1}, "is damaged: a sample record has no field 'stepz'"),
        ({"span": [1, "a", 2]}, "is damaged"),
    ],
)
def test_a_file_that_is_not_this_record_is_refused(tmp_path, changes, line):
    rewrite(tmp_path / "a.json", **changes)
    with pytest.raises(RunError, match=rf"a\.json {line}"):
        Sample.load(tmp_path / "a.json")


def test_a_default_stands_in_for_an_absent_field(tmp_path):
    rewrite(tmp_path / "a.json", note="DROP", best="DROP", extra="DROP")
    assert Sample.load(tmp_path / "a.json") == Sample(21, SAMPLE.log10_gradient, SAMPLE.span, SAMPLE.curves)


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*a\.json"):
        Other.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"kind": "oth')
    with pytest.raises(RunError, match=r"a\.json is damaged"):
        Other.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(RunError, match=r"a\.json is not a record"):
        Other.load(tmp_path / "a.json")


def test_what_cannot_come_back_is_refused(tmp_path):
    with pytest.raises(TypeError, match="the field 'steps' of a record holds a list"):
        Other([1]).save(tmp_path / "a.json")
    with pytest.raises(TypeError, match="the field 'steps' of a record holds a dict"):
        Other({1: 2}).save(tmp_path / "a.json")
    with pytest.raises(NonFiniteError):
        Other(float("nan")).save(tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
