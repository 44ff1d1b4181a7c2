"""Batches as pure functions of the step: parallel streams of one text, cut into windows, in order.

A text of ids is dealt out to `B` streams, each a contiguous stretch, and every step moves each stream forward by one
window, so that a recurrent net can carry its state from window to window. Nothing here is random at run time and
nothing is remembered: step `k` of a run gives the same batch whether the run was interrupted or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from throughtime.errors import InputError

__all__ = ["Stretch", "Streams", "whole_text"]


@dataclass(frozen=True)
class Stretch:
    """Words of B streams, and which of them are to be predicted.

    Attributes:
        ids: (S, B) int64; rows before `first` and from `last` on are context only.
        first: the first target row.
        last: one past the last target row.
        starts: True where the streams begin here, so that a carried state must be the initial one.
        positions: (last - first, B) int64, where each target stands in the text; -1 where a row only fills up the
            rectangle and does not count.
    """

    ids: np.ndarray
    first: int
    last: int
    starts: bool
    positions: np.ndarray


@dataclass(frozen=True)
class Streams:
    """The training text as batches.

    Args:
        ids: (N,) the words, any integer dtype, memory-mapped or not.
        num_streams: B, over all processes.
        window: T, targets a step and stream.
        before: context rows ahead of the first target (the words that a model must have read).
        after: context rows behind the last target (for two-sided models).
        padding: the id that stands outside the text (a sentence end).
        seed: shifts where the windows of each epoch begin.

    Raises:
        InputError: if the text is shorter than one window for every stream.
    """

    ids: np.ndarray
    num_streams: int
    window: int
    before: int
    after: int
    padding: int
    seed: int = 0

    def __post_init__(self) -> None:
        needed = self.words_needed(self.num_streams, self.window)
        if len(self.ids) < needed:
            raise InputError(
                f"the training text has {len(self.ids)} words, and one window needs {needed} "
                f"({self.num_streams} streams of {self.window} and one): give more text, or a smaller batch or window"
            )

    @staticmethod
    def words_needed(num_streams: int, window: int) -> int:
        """The shortest text that fills one window of every stream, with room for the shift of an epoch."""
        return num_streams * window + 1

    @property
    def steps_per_epoch(self) -> int:
        """Windows in a stream; at least one."""
        room = (len(self.ids) - 1) // self.num_streams
        return max(1, (room - min(self.window - 1, room - self.window)) // self.window)

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that step `step` (from 0) belongs to."""
        return step // self.steps_per_epoch

    def stretch(self, step: int, *, streams: slice | None = None) -> Stretch:
        """The batch of step `step`, counted from 0 over all epochs; `streams` picks those of one process."""
        epoch, index = divmod(step, self.steps_per_epoch)
        length = (len(self.ids) - 1) // self.num_streams
        spare = length - self.steps_per_epoch * self.window
        shift = int(np.random.default_rng([self.seed, epoch]).integers(0, spare + 1))
        first_of_stream = 1 + shift + index * self.window
        numbers = np.arange(self.num_streams)[streams or slice(None)]
        starts = first_of_stream + numbers * length
        return Stretch(
            ids=_gather(self.ids, starts, self.before, self.window + self.after, self.padding),
            first=self.before,
            last=self.before + self.window,
            starts=index == 0,
            positions=starts[None, :] + np.arange(self.window)[:, None],
        )


def whole_text(
    ids: np.ndarray, *, num_streams: int, window: int, before: int, after: int, padding: int, limit: int | None = None
) -> Iterator[Stretch]:
    """Every word of a text as a target exactly once, for evaluation.

    With a `limit`, about that many words are targets: the first ones of every stream, so from all over the text. The
    first word of the text is predicted from `padding` alone.
    """
    num_streams = max(1, min(num_streams, len(ids) // window))
    length = -(-len(ids) // num_streams)
    starts = np.arange(num_streams) * length
    length = length if limit is None else min(length, -(-limit // num_streams))
    ends = np.minimum(starts + length, len(ids))
    for offset in range(0, length, window):
        rows = min(window, length - offset)
        at = starts + offset
        positions = at[None, :] + np.arange(rows)[:, None]
        yield Stretch(
            ids=_gather(ids, at, before, rows + after, padding),
            first=before,
            last=before + rows,
            starts=offset == 0,
            positions=np.where(positions < ends[None, :], positions, -1),
        )


def _gather(ids: np.ndarray, starts: np.ndarray, before: int, after: int, padding: int) -> np.ndarray:
    """(before + after, B) int64: rows around every start, `padding` outside the text."""
    rows = starts[None, :] + np.arange(-before, after)[:, None]
    inside = (rows >= 0) & (rows < len(ids))
    gathered = ids[np.where(inside, rows, 0)].astype(np.int64)
    gathered[~inside] = padding
    return gathered
