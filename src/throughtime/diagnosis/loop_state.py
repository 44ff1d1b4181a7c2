"""What a watched loop was seen to do with its state, and whether its batches go on from one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.evidence import Evidence
from throughtime.measurement.arguments import arguments

__all__ = ["APART", "GoingOn", "LoopState", "loop_state"]

APART = 0.2
"""Rows that go on and rows whose state is handed on are the same ones; a text that ends now and then costs a few."""

_ERRORS = 3.0


@dataclass(frozen=True)
class GoingOn:
    """The rows of a batch that go on where the batch before ended.

    Attributes:
        share: of all rows.
        error: its standard error; None where targets are the next inputs, so that rows were counted.
    """

    share: float
    error: float | None

    @property
    def exact(self) -> bool:
        """Whether rows were counted."""
        return self.error is None

    def fewer_than(self, share: float) -> bool:
        """Whether a state that is handed on for so many rows enters others.

        Where that is not counted, it has to be most of them; and what tells of the next batch by its opposite is
        a relation too, though another one.
        """
        if self.error is None:
            return share - self.share > APART
        margin = _ERRORS * self.error
        return self.share + margin < share / 2 and self.share > -APART - margin

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.share:.0%} of them go on where the batch before ended"
        return (
            f"of what the steps before tell of a step within a batch, those of the batch before tell {self.share:.0%} "
            f"(± {self.error:.0%}) of where a row begins"
        )


@dataclass(frozen=True)
class LoopState:
    """What was seen.

    Attributes:
        handed_on: share of the rows of a batch whose state is what the call before returned.
        kept: of those whose state in the model is there as the call before left it; None where none is seen there.
        going_on: None where that cannot be told.
        num_calls: of the model, in which it was seen.
    """

    handed_on: float
    kept: float | None
    going_on: GoingOn | None
    num_calls: float

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers by name."""
        going = self.going_on
        numbers = {"handed_on": self.handed_on, "kept": self.kept, "num_calls": self.num_calls}
        return numbers | {
            "going_on": None if going is None else going.share,
            "going_on_error": None if going is None else going.error,
        }

    @property
    def keeps_rightly(self) -> bool | None:
        """Whether what a model keeps of its sequences enters those alone that go on; None where that is not known."""
        if self.kept is not None and self.kept <= APART:
            return True  # the loop makes it forget
        if self.going_on is None:
            return None
        if self.going_on.fewer_than(1.0 if self.kept is None else self.kept):
            return None if self.kept is None else False
        return True


def loop_state(evidence: Evidence) -> LoopState | None:
    """Of a watched loop; None where none was watched, or its model called once.

    Where a mask may say at which steps sequences begin, nothing is told by how steps follow from one another.
    """
    history = evidence.case.history
    seen = None if history is None else history.carrying
    if seen is None:
        return None
    going = None
    if seen["going_on"] is not None:
        going = GoingOn(seen["going_on"], None)
    elif not any(isinstance(value, Tensor) and value.dtype == torch.bool for value in arguments(evidence.case.inputs)):
        going = _linked(evidence, seen)
    return LoopState(seen["handed_on"] or 0.0, seen.get("kept"), going, seen["num_calls"] or 0.0)


def _linked(evidence: Evidence, seen: dict[str, float | None]) -> GoingOn | None:
    """By how steps follow from those before them; a record of older versions does not hold it."""
    if not evidence.has("axes"):
        return None
    name = f"linked_{'batch' if evidence.axes.axes.time else 'time'}_first"
    share, error = seen.get(name), seen.get(f"{name}_error")
    return None if share is None or error is None else GoingOn(share, error)
