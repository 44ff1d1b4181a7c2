"""What a callback passes on to `watch`, checked when it is made and not hours later when training begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from throughtime.check import nearest
from throughtime.errors import RecipeError

__all__ = ["WatchChoices", "checked"]


class WatchChoices(TypedDict, total=False):
    """The choices of `throughtime.watch` that a callback leaves to its user; each means what it means there."""

    every: int
    sample_every: int | None
    max_overhead: float | None
    loss: Callable[..., Any] | None
    time_dim: int | None


def checked(choices: WatchChoices) -> WatchChoices:
    """The same.

    Raises:
        RecipeError: if one has a name that `watch` does not know.
    """
    known = WatchChoices.__annotations__
    for name in choices:
        if name not in known:
            raise RecipeError(f"a watch has no choice '{name}': {nearest(name, known)}")
    return choices
