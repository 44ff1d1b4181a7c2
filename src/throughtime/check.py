"""Small checks of the user's choices, with errors that say what was expected, what came and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from throughtime.errors import RecipeError

__all__ = ["at_least", "nearest", "one_of", "valid_seed"]

LARGEST_SEED = 2**62
"""Torch takes numbers of 64 bits, and some are added to a seed."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint that offers the nearest known name, or lists all of them.

    Example:
        >>> nearest("lstn", ["elman", "gru", "lstm"])
        "did you mean 'lstm'?"
        >>> nearest("x", ["elman", "gru", "lstm"])
        'choose one of elman, gru, lstm'
    """
    known = list(names)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(known)}"


def one_of(what: str, name: str, names: Iterable[str]) -> str:
    """`name`, if it is one of `names`.

    Raises:
        RecipeError: otherwise, with the nearest name.
    """
    known = list(names)
    if name not in known:
        raise RecipeError(f"unknown {what} '{name}': {nearest(name, known)}")
    return name


def at_least(what: str, value: float, minimum: float) -> None:
    """Refuse a number that is too small, or not a number.

    Raises:
        RecipeError: if `value` is below `minimum` or NaN.
    """
    if not value >= minimum:
        raise RecipeError(f"{what} must be at least {minimum:g}, not {value:g}")


def valid_seed(seed: int) -> None:
    """Refuse a seed that a random generator would.

    Raises:
        RecipeError: if it is below 0, or larger than 2^62.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise RecipeError(f"seed must lie between 0 and 2^62, not at {seed}")
