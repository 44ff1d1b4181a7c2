"""What was found out of how far back a target hangs on its inputs, whatever information was measured by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["SHARE", "Told", "need_of"]

SHARE = 0.99
"""Of what can be told: what is left of it does not count."""


@dataclass(frozen=True)
class Told:
    """Lags that hold something about the target, and how much is left when it is told from inputs up to each.

    Attributes:
        lags: ascending.
        left: (len(lags) + 1, N) for each row what is not told (a squared error, or nats) by no input, by those up to
            the first lag, up to the second ...
        detectable: the share of what there is to tell that a single lag had to tell to be found.
        left_over: whether other lags together hold something too, though none of them is seen alone.
        rows_needed: about how many rows it would take to see these; None where that is not known.
    """

    lags: tuple[int, ...]
    left: Tensor
    detectable: float
    left_over: bool = False
    rows_needed: int | None = None


def need_of(left: Tensor, lags: tuple[int, ...]) -> int | None:
    """The first lag up to which all but 1 % of what can be told is; None where nothing can.

    Args:
        left: (len(lags) + 1,), sums over rows.
        lags: ascending.
    """
    gains = left[0] - left[1:]
    best = gains.max()
    if best <= 0:
        return None
    return lags[int((gains >= SHARE * best).nonzero()[0])]
