"""The tasks that have a name."""

from __future__ import annotations

import dataclasses
from typing import Any

from throughtime.check import nearest, one_of
from throughtime.errors import RecipeError
from throughtime.tasks.adding import Adding
from throughtime.tasks.associative import AssociativeRecall
from throughtime.tasks.base import Task
from throughtime.tasks.copying import Copying, SelectiveCopying
from throughtime.tasks.digits import Digits
from throughtime.tasks.dyck import Dyck
from throughtime.tasks.forecasting import CoupledSines, MackeyGlass
from throughtime.tasks.majority import NoisyMajority
from throughtime.tasks.recall import DelayedRecall, NBack
from throughtime.tasks.tracking import Parity, Permutations

__all__ = ["make", "names"]

_KINDS: tuple[type[Task], ...] = (
    Adding,
    Copying,
    SelectiveCopying,
    DelayedRecall,
    AssociativeRecall,
    Parity,
    Permutations,
    NBack,
    Dyck,
    NoisyMajority,
    MackeyGlass,
    CoupledSines,
    Digits,
)
_BY_NAME: dict[str, tuple[type[Task], dict[str, Any]]] = {
    **{kind.name: (kind, {}) for kind in _KINDS},
    "permuted-digits": (Digits, {"permuted": True}),
}


def names() -> tuple[str, ...]:
    """Every name that `make` takes.

    Example:
        >>> names()[:3]
        ('adding', 'copying', 'selective-copying')
    """
    return tuple(_BY_NAME)


def make(name: str, **options: Any) -> Task:
    """A task by its name, with the published settings unless others are given.

    Args:
        name: one of `names()`.
        options: as the task's class takes them; `length` for every task.

    Returns:
        The task.

    Raises:
        RecipeError: if the name or an option is unknown or out of range.

    Example:
        >>> make("adding", length=1000).need
        999
    """
    kind, fixed = _BY_NAME[one_of("task", name, _BY_NAME)]
    known = [field.name for field in dataclasses.fields(kind) if field.name not in fixed]
    for option in options:
        if option not in known:
            raise RecipeError(f"task '{name}' has no option '{option}': {nearest(option, known)}")
    return kind(**fixed, **options)
