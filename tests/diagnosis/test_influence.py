"""How much older inputs change the outputs, in models where that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diagnosis.patients import Tagger, cross_entropy, evidence, mse, text
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.influence import influence


class Filter(nn.Module):
    """Each output is a sum of the inputs before it, by lag; (T, B) -> (T, B) or the last (B,)."""

    def __init__(self, *weights: float, last: bool = True) -> None:
        super().__init__()
        self.weights, self.last = weights, last

    def forward(self, x: Tensor) -> Tensor:
        y = sum(
            w * torch.cat([x.new_zeros(lag, x.size(1)), x[: x.size(0) - lag]]) for lag, w in enumerate(self.weights)
        )
        return y[-1] if self.last else y


def of(model: nn.Module, x: Tensor, **options: object) -> Evidence:
    return evidence(model, x, torch.zeros(x.size(1)), mse, **{"time_dim": 0} | options)


def numbers(num_steps: int = 12, batch: int = 5) -> Tensor:
    return torch.randn(num_steps, batch, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("last", [True, False])
def test_the_change_is_that_of_the_older_inputs_alone(last: bool) -> None:
    x = numbers()
    case = of(Filter(1.0, 0.5, 0.0, 0.25, last=last), x)
    change = x.roll(1, 1) - x
    everything = change[-1] + 0.5 * change[-2] + 0.25 * change[-4]
    whole = everything.square().mean().sqrt()
    for lag, older in ((0, 0.5 * change[-2] + 0.25 * change[-4]), (1, 0.25 * change[-4]), (2, 0.25 * change[-4])):
        assert influence(case, lag) == pytest.approx(float(older.square().mean().sqrt() / whole), rel=1e-5)
    assert influence(case, 4) == influence(case, 8) == 0


def test_each_sequence_counts_from_its_own_end() -> None:
    x, lengths = numbers(), torch.tensor([12, 7, 7, 9, 3])
    case = of(Filter(1.0, 0.5, last=False), x, lengths=lengths)
    at, rows = lengths - 1, torch.arange(5)
    change = x.roll(1, 1) - x
    older, now = 0.5 * change[at - 1, rows], change[at, rows]
    expected = older.square().mean().sqrt() / (now + older).square().mean().sqrt()
    assert influence(case) == pytest.approx(float(expected), rel=1e-5)
    assert influence(case, 1) == 0


def test_ids_of_batch_first_taggers() -> None:
    ids = text()
    case = evidence(Tagger(), ids[:, :-1], ids[:, 1:], cross_entropy)
    assert 0.1 < influence(case) < 2
    assert influence(case, 16) < 0.1


def test_a_model_of_several_arguments_keeps_the_others() -> None:
    class Scaled(Filter):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x) * scale

    x = numbers()
    alone = influence(of(Filter(1.0, 0.5), x))
    together = influence(evidence(Scaled(1.0, 0.5), (x, torch.tensor(3.0)), torch.zeros(5), mse, time_dim=0))
    assert together == pytest.approx(alone)


def test_dropout_draws_the_same_masks_for_every_replacement() -> None:
    class Dropped(Filter):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(x, 0.3, self.training))

    case = of(Dropped(1.0, 0.5), numbers())
    assert influence(case) > 0
    assert influence(case, 1) == 0


def test_what_is_missing() -> None:
    with pytest.raises(Missing, match="at least two sequences"):
        influence(of(Filter(1.0), numbers(batch=1)))
    with pytest.raises(Missing, match="outputs that depend on the inputs at all"):
        influence(of(Filter(0.0, 0.0), numbers()))
