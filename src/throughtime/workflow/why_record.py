"""What `why` measured: one answer after another, each with its numbers, a table and a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from throughtime.storage import Record

__all__ = ["Answer", "Chart", "Curve", "Table", "WhyRecord"]

Number = float | int | str | None


@dataclass(frozen=True)
class Curve:
    """Points to be joined.

    Attributes:
        name: for the legend.
        x: ascending.
        y: one for each x; None where there is nothing to draw.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]


@dataclass(frozen=True)
class Chart:
    """A picture of curves.

    Attributes:
        x_label: with its unit.
        y_label: with its unit.
        curves: at most seven.
        log_x: whether x is to be drawn on a logarithmic scale.
        joined: whether points are joined; else they stand for themselves.
    """

    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Table:
    """Numbers in rows; None where something cannot be had."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Answer:
    """One step of the argument, in numbers alone; its words are in `why_words`.

    Attributes:
        key: which one.
        numbers: what its sentence says.
        table: what was measured.
        chart: the same as a picture.
        seconds: that it took.
    """

    key: str
    numbers: dict[str, float]
    table: Table
    chart: Chart
    seconds: float = 0.0


@dataclass(frozen=True)
class WhyRecord(Record):
    """Why recurrent networks are hard to train, measured.

    Attributes:
        seed: of all weights and data.
        torch_version: of the torch with which it was measured.
        values: the fields of each `Answer`, in the order of the argument.
    """

    record_kind: ClassVar[str] = "why"
    schema_version: ClassVar[int] = 1

    seed: int
    torch_version: str
    values: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, answers: tuple[Answer, ...], *, seed: int, torch_version: str) -> WhyRecord:
        """The record of these answers."""
        return cls(seed, torch_version, tuple(asdict(answer) for answer in answers))

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers."""
        return tuple(_answer(value) for value in self.values)

    @property
    def seconds(self) -> float:
        """That all measurements took."""
        return sum(answer.seconds for answer in self.answers)


def _answer(value: dict[str, Any]) -> Answer:
    chart, table = value["chart"], value["table"]
    curves = tuple(Curve(**curve) for curve in chart["curves"])
    return Answer(**{**value, "table": Table(**table), "chart": Chart(**{**chart, "curves": curves})})
