"""Batches are pure functions of the step, and an evaluation scores every word once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.errors import InputError
from throughtime.text.batches import Streams, whole_text

PADDING = 0


def streams(length: int, *, num_streams: int = 3, window: int = 4, before: int = 2, after: int = 1) -> Streams:
    ids = np.arange(1, length + 1, dtype=np.uint16)
    return Streams(ids, num_streams=num_streams, window=window, before=before, after=after, padding=PADDING, seed=5)


def test_windows_of_a_stream_follow_each_other() -> None:
    batches = streams(200)
    for step in range(batches.steps_per_epoch - 1):
        now, following = batches.stretch(step), batches.stretch(step + 1)
        assert (following.ids[following.first] == now.ids[now.last - 1] + 1).all()
        assert following.starts is False
    assert batches.stretch(0).starts


def test_context_rows_are_the_neighbours_in_the_text() -> None:
    stretch = streams(200).stretch(1)
    assert stretch.ids.shape == (2 + 4 + 1, 3)
    assert (np.diff(stretch.ids, axis=0) == 1).all()
    assert (stretch.positions == stretch.ids[stretch.first : stretch.last] - 1).all()


def test_a_step_is_the_same_however_one_comes_to_it() -> None:
    one, other = streams(150), streams(150)
    last = [one.stretch(step).ids for step in range(25)][-1]
    assert (other.stretch(24).ids == last).all()


def test_epochs_begin_at_different_places() -> None:
    batches = streams(150)
    first = {int(batches.stretch(epoch * batches.steps_per_epoch).ids[2, 0]) for epoch in range(20)}
    assert len(first) > 1


def test_each_process_reads_its_own_streams() -> None:
    batches = streams(400, num_streams=4)
    whole = batches.stretch(3).ids
    parts = [batches.stretch(3, streams=slice(rank * 2, rank * 2 + 2)).ids for rank in (0, 1)]
    assert (np.concatenate(parts, axis=1) == whole).all()


@given(length=st.integers(2, 90), num_streams=st.integers(1, 7), window=st.integers(1, 9))
def test_every_length_either_fits_or_is_refused_with_what_is_needed(length: int, num_streams: int, window: int) -> None:
    if length < num_streams * window + 1:
        with pytest.raises(InputError, match=f"{length} words, and one window needs {num_streams * window + 1}"):
            streams(length, num_streams=num_streams, window=window)
        return
    batches = streams(length, num_streams=num_streams, window=window)
    for step in range(2 * batches.steps_per_epoch):
        stretch = batches.stretch(step)
        assert stretch.positions.min() >= 1
        assert stretch.positions.max() < length
        assert (stretch.ids[stretch.first : stretch.last] != PADDING).all()


@settings(deadline=None)
@given(
    length=st.integers(1, 120),
    num_streams=st.integers(1, 8),
    window=st.integers(1, 16),
)
def test_a_whole_text_is_scored_once(length: int, num_streams: int, window: int) -> None:
    ids = np.arange(1, length + 1, dtype=np.uint32)
    seen: list[int] = []
    for stretch in whole_text(ids, num_streams=num_streams, window=window, before=2, after=3, padding=PADDING):
        counted = stretch.positions >= 0
        targets = stretch.ids[stretch.first : stretch.last]
        assert (targets[counted] == stretch.positions[counted] + 1).all()
        seen += stretch.positions[counted].tolist()
    assert sorted(seen) == list(range(length))


def test_a_limit_takes_words_from_all_over_the_text() -> None:
    stretches = whole_text(np.arange(1000), num_streams=4, window=10, before=1, after=0, padding=PADDING, limit=100)
    seen = np.concatenate([stretch.positions[stretch.positions >= 0] for stretch in stretches])
    assert sorted(seen.tolist()) == [start + row for start in (0, 250, 500, 750) for row in range(25)]


def test_outside_the_text_stands_padding() -> None:
    stretch = next(whole_text(np.array([7, 8]), num_streams=1, window=4, before=2, after=1, padding=PADDING))
    assert stretch.ids[:, 0].tolist() == [0, 0, 7, 8, 0]
