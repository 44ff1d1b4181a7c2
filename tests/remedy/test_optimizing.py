"""An optimizer keeps its class, options and groups, and what it has accumulated for parameters that stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from throughtime.errors import RecipeError
from throughtime.remedy import TreatmentPlan
from throughtime.remedy.optimizing import set_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(3, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][-1])


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda groups: SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda groups: Adam(groups, betas=(0.5, 0.6), eps=1e-6),
    "adamw": lambda groups: AdamW(groups, weight_decay=0.3),
    "adagrad": lambda groups: Adagrad(groups, lr_decay=0.1),
    "rmsprop": lambda groups: RMSprop(groups, alpha=0.7),
}


def step(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(5, 2, 3)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_replaced_cell_joins_the_group_of_the_old_one(name: str) -> None:
    torch.manual_seed(0)
    model = Net()
    groups = [{"params": model.rnn.parameters(), "lr": 0.01}, {"params": model.out.parameters(), "lr": 0.02}]
    optimizer = OPTIMIZERS[name](groups)
    step(model, optimizer)
    kept = dict(optimizer.state[model.out.weight])
    before = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    same, treated = TreatmentPlan(cell="gru").apply(model, optimizer)
    assert same is model
    assert type(treated) is type(optimizer)
    assert [{k: v for k, v in group.items() if k != "params"} for group in treated.param_groups] == before
    assert set(treated.param_groups[0]["params"]) == set(model.rnn.parameters())
    assert treated.state[model.out.weight].keys() == kept.keys()
    assert all(treated.state[model.out.weight][key] is value for key, value in kept.items())
    weight = next(model.rnn.parameters())
    old = weight.detach().clone()
    step(model, treated)
    assert not torch.equal(weight, old)


def test_parameters_that_were_not_updated_are_not_updated_after_it() -> None:
    model = Net()
    optimizer = Adam(model.out.parameters())
    TreatmentPlan(cell="gru").apply(model, optimizer)
    assert {p for group in optimizer.param_groups for p in group["params"]} == set(model.out.parameters())


def test_rates_of_groups_keep_their_ratio_and_a_schedule_goes_on() -> None:
    model = Net()
    optimizer = SGD([{"params": model.rnn.parameters(), "lr": 0.1}, {"params": model.out.parameters(), "lr": 0.4}])
    TreatmentPlan(learning_rate=0.01).apply(model, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.04])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step(model, optimizer)
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.02])


def test_adam_takes_over_groups_rates_and_decay() -> None:
    model = Net()
    groups = [{"params": model.rnn.parameters(), "lr": 0.1, "weight_decay": 0.2}, {"params": model.out.parameters()}]
    old = SGD(groups, lr=0.4)
    same, optimizer = TreatmentPlan(adam=True, learning_rate=0.01).apply(model, old)
    assert same is model
    assert isinstance(optimizer, Adam)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.04])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0]
    held = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert held == [[id(p) for p in group["params"]] for group in old.param_groups]
    step(model, optimizer)
    with pytest.raises(RecipeError, match=r"plan\.adam needs plan\.learning_rate"):
        TreatmentPlan(adam=True)


def test_decay_is_for_matrices() -> None:
    model = Net()
    optimizer = AdamW([{"params": [model.out.bias], "weight_decay": 0.0}, {"params": [model.out.weight]}])
    TreatmentPlan(weight_decay=0.5).apply(model, optimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.5]


def test_gradients_are_forgotten_after_each_step() -> None:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    TreatmentPlan(reset_gradients=True).apply(model, optimizer)
    model(torch.ones(5, 2, 3)).sum().backward()
    optimizer.step()
    assert all(p.grad is None for p in model.parameters())


def test_all_parameters_frozen_listed_and_forgotten_are_updated() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.RNN(3, 6), nn.RNN(6, 6)]
            self.out = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x, _ = layer(x)
            return self.out(x[-1])

    torch.manual_seed(0)
    model = Listed()
    model.out.bias.requires_grad_(False)
    optimizer = Adam([model.out.weight], lr=0.1)
    before = [p.detach().clone() for layer in model.layers for p in layer.parameters()]
    TreatmentPlan(all_parameters=True).apply(model, optimizer)
    assert len(list(model.parameters())) == 10
    step(model, optimizer)
    after = [p for layer in model.layers for p in layer.parameters()]
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert model.out.bias.requires_grad


def test_lbfgs_gets_its_parameters_too() -> None:
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)
    set_groups(optimizer, [{**optimizer.param_groups[0], "params": list(model.out.parameters())}])
    before = model.rnn.weight_hh_l0.detach().clone()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(5, 2, 3)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(model.rnn.weight_hh_l0, before)
