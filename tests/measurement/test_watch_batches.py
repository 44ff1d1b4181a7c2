"""The batches of a loop whose model keeps a state."""

from __future__ import annotations

import torch

from throughtime.measurement import watch_batches
from throughtime.measurement.watch_batches import WatchedBatches

X, Y = torch.arange(6.0).view(2, 3), torch.tensor([1, 0])


def seen(*calls):
    batches = WatchedBatches()
    for args, kwargs, targets in calls:
        batches.called(args, kwargs)
        if targets is not None:
            batches.targets(targets)
    return batches


def test_batches_are_kept_in_their_order_as_they_were():
    x = X.clone()
    batches = seen(((x,), {}, Y), ((X + 1,), {}, Y + 1))
    x.zero_()
    (first, targets), (second, _) = batches.found
    assert torch.equal(first, X)
    assert torch.equal(targets, Y)
    assert torch.equal(second, X + 1)


def test_nothing_behind_a_gap_is_told():
    assert len(seen(((X,), {}, Y), ((X,), {}, None), ((X,), {}, Y)).found) == 1
    assert len(seen(((X,), {}, Y), ((X, X), {}, Y), ((X,), {}, Y)).found) == 1
    assert len(seen(((X,), {}, Y), ((X,), {"mask": X}, Y), ((X,), {}, Y)).found) == 1


def test_so_many_numbers_and_no_more(monkeypatch):
    monkeypatch.setattr(watch_batches, "_MOST_NUMBERS", 2 * (X.numel() + Y.numel()))
    assert len(seen(*[((X,), {}, Y)] * 4).found) == 2


def test_what_was_dropped_never_comes_again():
    batches = seen(((X,), {}, Y))
    batches.drop()
    batches.called((X,), {})
    batches.targets(Y)
    assert batches.found == ()
