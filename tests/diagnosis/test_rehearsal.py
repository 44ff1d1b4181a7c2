"""A rehearsal trains a copy as the user's loop would, and leaves everything as it was."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.rehearsal import MOST_STEPS, rehearse


class Last(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, dropout: float = 0.0) -> None:
        super().__init__()
        self.rnn = kind(2, 8, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(self.dropout(self.rnn(x)[0][:, -1]))).squeeze(-1)
        return y


def case(model: nn.Module, optimizer: Any = None, **rest: Any) -> Case:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(16, 12, 2, generator=generator)
    optimizers = () if optimizer is None else (optimizer,)
    given = {"inputs": x, "targets": x[:, -3, 0], "loss": F.mse_loss} | rest
    return Case(model=model, optimizers=optimizers, **given)


def states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), name, list(keys), *rest


def test_everything_stays_as_it_was_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = Last(dropout=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model(torch.randn(4, 5, 2)).sum().backward()
    optimizer.step()
    model.eval()
    patient = case(model, optimizer)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients = [parameter.grad for parameter in model.parameters()]
    copies = [None if gradient is None else gradient.clone() for gradient in gradients]
    x, random_before = patient.inputs.clone(), states()
    found = rehearse(patient)
    assert len(found.losses) == MOST_STEPS == found.history.num_steps == len(found.history.samples)
    assert found.losses[-1] < found.losses[0]
    after = model.state_dict(), optimizer.state_dict()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(a is b.grad for a, b in zip(gradients, model.parameters(), strict=True))
    torch.testing.assert_close(gradients, copies, rtol=0, atol=0)
    assert torch.equal(patient.inputs, x)
    assert states() == random_before
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_it_is_the_training_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    model = Last()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    patient = case(model, optimizer)
    found = rehearse(patient, steps=8, clip=0.5)
    for step in range(8):
        optimizer.zero_grad()
        loss = patient.loss(model(patient.inputs), patient.targets)
        assert found.losses[step] == loss.item()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_the_same_twice_and_other_rates() -> None:
    torch.manual_seed(0)
    model = Last(dropout=0.5)
    patient = case(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    assert rehearse(patient, steps=5).losses == rehearse(patient, steps=5).losses
    faster = rehearse(patient, steps=5, rate=10.0)
    assert faster.losses != rehearse(patient, steps=5).losses
    assert faster.history.samples[0]["learning_rate"] == pytest.approx(1e-2)


def test_lbfgs() -> None:
    torch.manual_seed(0)
    model = Last()
    found = rehearse(case(model, torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)), steps=6)
    assert len(found.losses) == 6
    assert found.losses[-1] < 0.5 * found.losses[0]


class Stateful(nn.Module):
    """Carries its state from batch to batch, as a loop that detaches it between them wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 8, batch_first=True)
        self.out = nn.Linear(8, 1)
        self.hidden: Tensor | None = None
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        y, self.hidden = self.rnn(x, self.hidden)
        self.kept = [self.hidden]
        found: Tensor = self.out(y[:, -1]).squeeze(-1)
        return found


def test_a_model_that_carries_its_state() -> None:
    torch.manual_seed(0)
    model = Stateful()
    patient = case(model, torch.optim.SGD(model.parameters(), lr=0.05))
    model(patient.inputs)
    hidden = model.hidden
    assert hidden is not None
    assert hidden.grad_fn is not None
    found = rehearse(patient, steps=10)
    assert len(found.losses) == 10
    assert math.isfinite(found.losses[-1])
    assert model.hidden is hidden
    assert model.kept[0] is hidden
    assert hidden.grad_fn is not None


class Fussy(Last):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("only to be used after training")
        return super().forward(x)


def test_a_model_that_raises_in_train_mode_is_trained_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = Fussy().eval()
    found = rehearse(case(model, torch.optim.Adam(model.parameters(), lr=1e-2)), steps=10)
    assert found.losses[-1] < found.losses[0]


def test_what_cannot_be_trained_or_copied_is_missing() -> None:
    model = Last()
    with pytest.raises(Missing, match="an optimizer"):
        rehearse(case(model))
    with pytest.raises(Missing, match="only to be used after training"):
        rehearse(case(fussy := Fussy(), torch.optim.SGD(fussy.parameters(), lr=0.1)))
    with pytest.raises(Missing, match="optimizer that trains this model"):
        rehearse(case(model, torch.optim.SGD(Last().parameters(), lr=0.1)))
    model.handle = (n for n in range(3))  # type: ignore[assignment]
    with pytest.raises(Missing, match="can be copied"):
        rehearse(case(model, torch.optim.SGD(model.parameters(), lr=0.1)))


def test_a_loss_that_refers_to_the_model_leaves_no_gradient_in_it() -> None:
    torch.manual_seed(0)
    model = Last()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets) + sum(p.square().sum() for p in model.parameters())

    rehearse(case(model, torch.optim.SGD(model.parameters(), lr=0.1), loss=loss), steps=3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_with_parameters_of_its_own_is_trained_as_well() -> None:
    torch.manual_seed(0)
    model = nn.GRU(2, 8, batch_first=True)

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 1)

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return F.mse_loss(self.out(outputs[:, -1]).squeeze(-1), targets)

    head = Head()
    weight = head.out.weight.detach().clone()
    optimizer = torch.optim.Adam([*head.parameters(), *model.parameters()], lr=3e-2)
    found = rehearse(case(model, optimizer, loss=head), steps=30)
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert torch.equal(head.out.weight, weight)


def test_a_loss_that_is_not_finite_ends_it() -> None:
    torch.manual_seed(0)
    model = Last()
    found = rehearse(case(model, torch.optim.SGD(model.parameters(), lr=1e12)))
    assert len(found.losses) < MOST_STEPS
    assert math.isnan(found.losses[-1])
    assert found.history.non_finite is not None


def test_validation_before_and_after() -> None:
    torch.manual_seed(0)
    model = Last()
    x = torch.randn(32, 12, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = rehearse(case(model, optimizer, validation=(x, x[:, -3, 0])), steps=5)
    model.eval()
    with torch.no_grad():
        assert found.validation_before == F.mse_loss(model(x), x[:, -3, 0]).item()
    assert found.validation_after != found.validation_before


def test_inside_no_grad_and_inference_mode() -> None:
    torch.manual_seed(0)
    model = Last()
    patient = case(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    outside = rehearse(patient, steps=3).losses
    with torch.no_grad():
        assert rehearse(patient, steps=3).losses == outside
    with torch.inference_mode():
        assert rehearse(patient, steps=3).losses == outside
