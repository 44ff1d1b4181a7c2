"""What another learning rate would have done from the same start on the same batch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from throughtime.diagnosis.case import Case
from throughtime.diagnosis.rehearsal import rehearse

__all__ = ["SHORT_STEPS", "Rates", "settled"]

SHORT_STEPS = 20
SHORT_SECONDS = 2.5
"""Together with the first rehearsal, all of them stay within half of what a diagnosis may take."""


class Rates:
    """Short rehearsals, each made when it is first asked for, and once.

    Attributes:
        case: whose.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self._known: dict[tuple[float, float | None, int], tuple[float, ...]] = {}

    def losses(self, factor: float, *, clip: float | None = None, steps: int = SHORT_STEPS) -> tuple[float, ...]:
        """The losses with all learning rates times `factor`.

        Raises:
            Missing: as `rehearse`.
        """
        key = (factor, clip, steps)
        if key not in self._known:
            found = rehearse(self.case, steps=steps, seconds=SHORT_SECONDS, rate=factor, clip=clip)
            self._known[key] = found.losses
        return self._known[key]


def settled(losses: Sequence[float], steps: int | None = None) -> float:
    """Where the losses of the first `steps` have come to: the median of the last fifth; infinite where they broke off.

    Example:
        >>> settled([5.0, 4.0, 3.0, 2.0, 9.0, 1.0, 1.0, 1.0])
        1.0
    """
    chosen = list(losses[:steps])
    if not chosen or not all(map(math.isfinite, chosen)):
        return math.inf
    return statistics.median(chosen[-max(3, len(chosen) // 5) :])
