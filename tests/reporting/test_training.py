"""A training as pictures."""

from __future__ import annotations

from throughtime.measurement.loss_spikes import Spike
from throughtime.reporting.training import losses_picture


def test_spikes_are_marked_with_what_caused_them() -> None:
    steps = [{"step": number, "loss_nats": 5.0 if number == 7 else 3.0} for number in range(1, 11)]
    picture = losses_picture(steps, [], [Spike(7, 5.0, "the gradient of update 6 was 60 times as large as usual")])
    assert picture is not None
    assert "1 spike of the loss (at update 7: the gradient of update 6 was 60 times" in picture.sentence
    (marks,) = [each for each in picture.figure.renderers if "cause" in getattr(each.data_source, "data", {})]
    assert list(marks.data_source.data["x"]) == [7]
    assert marks.data_source.data["cause"] == ["the gradient of update 6 was 60 times as large as usual"]
    plain = losses_picture(steps, [])
    assert plain is not None
    assert "spike" not in plain.sentence
