"""What the callbacks of all libraries share: the choices of a watch, where it writes to, and what it has seen."""

from __future__ import annotations

from collections.abc import Sequence

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.integrations.choices import WatchChoices, checked
from throughtime.integrations.feed import Feed, Writer
from throughtime.measurement import Watch, WatchRecord

__all__ = ["Watching"]


class Watching:
    """Beside a library's own class of callbacks.

    Attributes:
        watched: the watch; None before training.
    """

    watched: Watch | None = None
    _feed: Feed | None = None
    _begin_with = "train"
    """What a user calls to begin a training."""

    def _choose(self, writers: Sequence[Writer], log_every: int, choices: WatchChoices) -> None:
        """Raises RecipeError if a choice is unknown or out of range."""
        at_least("log_every", log_every, 1)
        self._writers, self._log_every, self._choices = tuple(writers), log_every, checked(choices)

    @property
    def record(self) -> WatchRecord:
        """What was seen so far.

        Raises:
            InputError: before training.
        """
        if self.watched is None:
            raise InputError(
                f"nothing was watched yet: hand this callback to a Trainer and call {self._begin_with} first"
            )
        return self.watched.record

    def _stop_watching(self) -> None:
        if self.watched is not None:
            self.watched.stop()
        if self._feed is not None:
            self._feed.close()
            self._feed = None
