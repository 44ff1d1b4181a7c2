"""A property that is computed once, whether it comes out or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from throughtime.diagnosis.case import Missing

__all__ = ["once"]

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801  # reads as a decorator, like functools.cached_property
    """As `functools.cached_property`; that something is `Missing` is remembered too, and never looked for again.

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
        self.name = f"_once_{name}"

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
        found = known[self.name]
        if isinstance(found, Missing):
            raise Missing(str(found))
        return found  # type: ignore[no-any-return]  # the instance's dictionary holds anything
