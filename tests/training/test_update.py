"""Numbers that are not finite are caught before the update, and it is said where they began."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from throughtime.errors import NonFiniteError
from throughtime.recipe import Plan
from throughtime.training.update import make_optimizer, update


class Line(nn.Module):
    """A loss that is easy to break."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))
        self.bias = nn.Parameter(torch.zeros(3))
        self.breaks: Callable[[Tensor], Tensor] = lambda loss: loss

    def forward(
        self, ids: Tensor, _first: int, _last: int, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.breaks((self.weight * ids.float()).pow(2).sum() + self.bias.sum()), state


def make_update(model: Line, optimizer: torch.optim.AdamW, clip: float = 1.0) -> tuple[float, float]:
    ids = torch.tensor([1, 2, 3])
    found = update(model, optimizer, (ids, 0, 1), (), step=4, clip=clip, learning_rate=0.1)
    return found.loss_nats, found.gradient_norm


def test_the_gradient_norm_is_that_before_clipping() -> None:
    model = Line()
    _, norm = make_update(model, make_optimizer(model, Plan()), clip=0.5)
    reference = Line()
    reference(torch.tensor([1, 2, 3]), 0, 1, ())[0].backward()
    expected = nn.utils.get_total_norm([weight.grad for weight in reference.parameters() if weight.grad is not None])
    assert norm == pytest.approx(float(expected), rel=1e-6)
    clipped = nn.utils.get_total_norm([weight.grad for weight in model.parameters() if weight.grad is not None])
    assert float(clipped) == pytest.approx(0.5, rel=1e-5)


class Explode(torch.autograd.Function):
    """A finite value with a gradient that is not."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * torch.inf


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: setattr(model, "breaks", lambda loss: loss * torch.nan), "step 4: the loss is nan"),
        (lambda model: setattr(model, "breaks", lambda loss: loss * torch.inf), "step 4: the loss is inf"),
        (lambda model: setattr(model, "breaks", Explode.apply), "step 4: the gradient of 'weight' is not finite"),
        (
            lambda model: model.bias.data.fill_(torch.nan),
            "step 4: the weights 'bias' are not finite; the update of step 3 began it",
        ),
    ],
)
def test_it_is_said_where_it_began_and_no_weight_is_touched(spoil: Callable[[Line], object], words: str) -> None:
    model = Line()
    optimizer = make_optimizer(model, Plan())
    make_update(model, optimizer)
    spoil(model)
    before = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(NonFiniteError, match=words):
        make_update(model, optimizer)
    for old, weight in zip(before, model.parameters(), strict=True):
        assert torch.equal(old.nan_to_num(7.0), weight.detach().nan_to_num(7.0))


def test_weight_decay_is_for_matrices() -> None:
    model = Line()
    groups = make_optimizer(model, Plan(weight_decay=0.3)).param_groups
    decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert decays == {id(model.weight): 0.3, id(model.bias): 0.0}
