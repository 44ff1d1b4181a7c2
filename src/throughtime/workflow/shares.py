"""How sure a share is that was counted over a few tries."""

from __future__ import annotations

import math

__all__ = ["wilson"]

_Z = 1.959964
"""Of the 95 % interval."""


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share.

    *Reference*: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Args:
        hits: how often it happened, at most `total`.
        total: out of how many, at least 1.

    Returns:
        Its lower and its upper end.

    Example:
        >>> low, high = wilson(5, 5)
        >>> round(low, 2), high
        (0.57, 1.0)
    """
    share = hits / total
    middle = (share + _Z**2 / (2 * total)) / (1 + _Z**2 / total)
    half = _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2)) / (1 + _Z**2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)
