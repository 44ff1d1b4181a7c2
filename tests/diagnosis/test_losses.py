"""A user's loss: what it is called with, and what a constant output can reach."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence

from throughtime.diagnosis.losses import (
    WholeLoss,
    constant_loss,
    first_output,
    mean_loss,
    taking_first_output,
)
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward


def test_forward_passes_tuples_dicts_and_packed_sequences() -> None:
    rnn = nn.RNN(2, 3)
    x = torch.randn(5, 4, 2)
    assert torch.equal(forward(rnn, x)[0], forward(rnn, (x, torch.zeros(1, 4, 3)))[0])
    assert torch.equal(forward(rnn, x)[0], forward(rnn, {"input": x})[0])
    packed = pack_sequence([torch.randn(3, 2), torch.randn(2, 2)])
    assert first_output(forward(rnn, packed)).shape == (3, 2, 3)


def test_first_output_of_all_that_models_return() -> None:
    y = torch.randn(3)
    assert first_output(y) is y
    assert first_output((y, torch.zeros(2))) is y
    assert first_output({"ids": torch.zeros(2, dtype=torch.long), "logits": y}) is y
    with pytest.raises(InputError, match="without a floating-point tensor"):
        first_output((torch.zeros(2, dtype=torch.long), None))


def test_mean_leaves_ignored_positions_out() -> None:
    outputs, targets = torch.randn(4, 6, 3), torch.randint(3, (4, 6))
    targets[:, 2:] = -100

    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")

    expected = F.cross_entropy(outputs.movedim(-1, 1), targets)
    torch.testing.assert_close(mean_loss(each, outputs, targets), expected)


def test_a_loss_that_fails_or_gives_no_tensor_is_told() -> None:
    with pytest.raises(InputError, match=r"outputs of shape \(3, 2\)"):
        mean_loss(nn.MSELoss(), torch.zeros(3, 2), "targets")
    with pytest.raises(InputError, match="gives float"):
        mean_loss(lambda outputs, targets: 1.0, torch.zeros(3, 2), torch.zeros(3, 2))


class Returned(NamedTuple):
    prediction: Tensor
    state: Tensor


@pytest.mark.parametrize("kind", [tuple, list, Returned, dict])
def test_a_loss_of_all_that_the_model_returns_takes_the_first_output_too(kind: type) -> None:
    prediction, state = torch.randn(8), torch.randn(1, 8, 4)
    found = {"prediction": prediction, "state": state} if kind is dict else (prediction, state)
    found = Returned(*found) if kind is Returned else kind(found)

    def loss(outputs: object, targets: Tensor) -> Tensor:
        first, _ = outputs.values() if isinstance(outputs, dict) else outputs  # type: ignore[misc]
        return F.mse_loss(first, targets)

    adapted = taking_first_output(loss, found, torch.zeros(8))
    assert isinstance(adapted, WholeLoss)
    other = torch.randn(8)
    torch.testing.assert_close(mean_loss(adapted, other, torch.zeros(8)), other.square().mean())
    torch.testing.assert_close(mean_loss(adapted, found, torch.zeros(8)), prediction.square().mean())


def test_a_loss_of_the_first_output_stays_as_it_is() -> None:
    loss = nn.MSELoss()
    assert taking_first_output(loss, (torch.zeros(8), torch.zeros(2)), torch.zeros(8)) is loss
    assert taking_first_output(loss, torch.zeros(8), torch.zeros(8)) is loss


def test_shapes_that_only_broadcast_are_not_taken_for_working() -> None:
    """(output, state)[0] of a loss written for the pair; on the output itself it would be its first step."""
    outputs, targets = torch.randn(1, 6), torch.randn(1, 6)

    def loss(found: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        return F.mse_loss(found[0], targets)

    assert isinstance(taking_first_output(loss, (outputs, torch.zeros(2)), targets), WholeLoss)


def test_constant_loss_is_the_entropy_of_classes_and_the_variance_of_numbers() -> None:
    targets = torch.tensor([0, 0, 0, 1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert constant_loss(nn.CrossEntropyLoss(), torch.randn(4, 2), targets, (9, 4)) == pytest.approx(entropy, rel=1e-4)
    numbers = torch.randn(64)
    variance = float(numbers.double().var(correction=0))
    assert constant_loss(nn.MSELoss(), torch.randn(64), numbers, (9, 64)) == pytest.approx(variance, rel=1e-5)
    per_step = torch.randn(5, 64)
    variance = float(per_step.double().var(correction=0))
    assert constant_loss(nn.MSELoss(), torch.randn(5, 64), per_step, (5, 64)) == pytest.approx(variance, rel=1e-5)


def test_constant_loss_of_positions_that_lie_in_one_axis() -> None:
    targets = torch.tensor([0, 0, 0, 1] * 3)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = constant_loss(nn.CrossEntropyLoss(), torch.randn(12, 2), targets, (3, 4))
    assert found == pytest.approx(entropy, rel=1e-4)
    numbers = torch.randn(12)
    variance = float(numbers.double().var(correction=0))
    assert constant_loss(nn.MSELoss(), torch.randn(12), numbers, (3, 4)) == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_constant_loss_of_probabilities_and_their_logarithms_is_one_of_probabilities(axis: int) -> None:
    targets = torch.tensor([[0, 0, 0, 1, 2], [0, 0, 0, 0, 2]])
    entropy = -(0.7 * math.log(0.7) + 0.1 * math.log(0.1) + 0.2 * math.log(0.2))
    raw = torch.randn(2, 5, 3).movedim(-1, axis)

    def of_logarithms(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(outputs.movedim(axis, 1), targets)

    def of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(outputs.log().movedim(axis, 1), targets)

    for loss, outputs in ((of_logarithms, raw.log_softmax(axis)), (of_probabilities, raw.softmax(axis))):
        assert constant_loss(loss, outputs, targets, (5, 2)) == pytest.approx(entropy, rel=1e-4)


def test_constant_loss_of_probabilities_that_need_not_add_up() -> None:
    targets = torch.tensor([0.0, 0.0, 0.0, 1.0]).unsqueeze(1)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = constant_loss(nn.BCELoss(), torch.rand(4, 1), targets, (9, 4))
    assert found == pytest.approx(entropy, rel=1e-4)


def test_constant_loss_of_numbers_that_only_look_like_probabilities_is_bound_by_nothing() -> None:
    numbers = 3 + torch.randn(64, 1)
    variance = float(numbers.double().var(correction=0))
    assert constant_loss(nn.MSELoss(), torch.rand(64, 1), numbers, (9, 64)) == pytest.approx(variance, rel=1e-5)
    pairs = 3 + torch.randn(64, 2)
    outputs = torch.rand(64, 2)
    variance = float(pairs.double().var(0, correction=0).mean())
    assert constant_loss(nn.MSELoss(), outputs, pairs, (9, 64)) == pytest.approx(variance, rel=1e-5)


def test_constant_loss_of_a_loss_that_takes_other_shapes_is_not_known() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("not this")

    assert math.isnan(constant_loss(loss, torch.randn(4, 2), torch.zeros(4), (9, 4)))


def test_weights_that_a_loss_holds_get_no_gradient() -> None:
    project = nn.Linear(3, 2).double()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(project(outputs.double()), targets)

    targets = torch.tensor([0, 0, 0, 1])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert constant_loss(loss, torch.randn(4, 3), targets, (9, 4)) == pytest.approx(entropy, rel=1e-4)
    assert all(parameter.grad is None for parameter in project.parameters())
