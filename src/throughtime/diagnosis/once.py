"""A property that is computed once, whether it comes out or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from throughtime.diagnosis.case import BrokenOff, Missing
from throughtime.errors import InputError

__all__ = ["PREFIX", "once"]

T = TypeVar("T")

PREFIX = "_once_"
"""Of the attributes in which results are kept."""


class once(Generic[T]):  # noqa: N801  # reads as a decorator, like functools.cached_property
    """As `functools.cached_property`; that something is `Missing` is remembered too, and never looked for again.

    So is an error: whatever a user's model does when it is called in an unusual way, what needs no such call is told.

    Example:
        >>> class Evidence:
        ...     @once
        ...     def horizon(self) -> int:
        ...         print("measured")
        ...         raise Missing("too little data")
        >>> evidence = Evidence()
        >>> for _ in range(2):
        ...     try:
        ...         evidence.horizon
        ...     except Missing as reason:
        ...         print(reason)
        measured
        too little data
        too little data
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"{PREFIX}{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        """What was computed, or what was missing."""
        if instance is None:
            return self
        known: dict[str, Any] = vars(instance)
        if self.name not in known:
            try:
                known[self.name] = self.compute(instance)
            except Missing as reason:
                known[self.name] = reason
            except InputError:
                raise  # says what is wrong with what was handed over, which may be all that there is to say
            except Exception as error:
                known[self.name] = BrokenOff.by(error)
        found = known[self.name]
        if isinstance(found, Missing):
            raise type(found)(str(found))
        return found  # type: ignore[no-any-return]  # the instance's dictionary holds anything
