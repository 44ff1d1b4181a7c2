"""What lies between a model's output and its loss: found by numbers, and the loss that is made of it, by position."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.workflow.caught_loss import LOSS_FUNCTIONS, CaughtLoss, form_between

T, B, C = 7, 4, 3  # the first two axes of an output may be either way round


def caught(function: Callable[..., Tensor], outputs: Tensor, targets: Tensor, **options: object) -> CaughtLoss:
    return CaughtLoss(function, outputs, targets, options, function(outputs, targets, **options), outputs)


CLASSES = {
    "as it is, (B, C)": ((B, C), (B,), lambda y: y, lambda t: t),
    "last step, batch first": ((B, T, C), (B,), lambda y: y[:, -1], lambda t: t),
    "last step, time first": ((T, B, C), (B,), lambda y: y[-1], lambda t: t),
    "mean over time, batch first": ((B, T, C), (B,), lambda y: y.mean(1), lambda t: t),
    "mean over time, time first": ((T, B, C), (B,), lambda y: y.mean(0), lambda t: t),
    "joined": ((B, T, C), (B, T), lambda y: y.reshape(-1, C), lambda t: t.reshape(-1)),
    "turned and joined": (
        (T, B, C),
        (T, B),
        lambda y: y.transpose(0, 1).reshape(-1, C),
        lambda t: t.transpose(0, 1).reshape(-1),
    ),
    "classes second, batch first": ((B, T, C), (B, T), lambda y: y.transpose(1, 2), lambda t: t),
    "classes second, time first": ((T, B, C), (T, B), lambda y: y.permute(1, 2, 0), lambda t: t.t()),
}
NUMBERS = {
    "as they are, (B,)": ((B,), (B,), lambda y: y, lambda t: t),
    "as they are, (B, T, C)": ((B, T, C), (B, T, C), lambda y: y, lambda t: t),
    "without the last axis": ((B, 1), (B,), lambda y: y.squeeze(-1), lambda t: t),
    "of steps, without the last axis": ((B, T, 1), (B, T), lambda y: y.squeeze(-1), lambda t: t),
    "last step, without the last axis": ((B, T, 1), (B,), lambda y: y[:, -1].squeeze(-1), lambda t: t),
    "last step, time first, without it": ((T, B, 1), (B,), lambda y: y[-1, :, 0], lambda t: t),
    "flat, with a last axis": ((B, T, 1), (B, T, 1), lambda y: y.flatten(), lambda t: t.flatten()),
    "flat": ((B, T), (B, T), lambda y: y.view(-1), lambda t: t.flatten()),
    "joined, of many features": ((B, T, C), (B, T, C), lambda y: y.flatten(0, 1), lambda t: t.flatten(0, 1)),
}


def check(function: Callable[..., Tensor], case: tuple, draw: Callable[[tuple[int, ...]], Tensor]) -> None:
    """The form gives the script's loss back, and for more sequences of other lengths the loss of each position."""
    shape, of_targets, form_outputs, form_targets = case
    outputs, targets = torch.randn(shape), draw(of_targets)
    call = caught(function, form_outputs(outputs), form_targets(targets))
    form = form_between(outputs, call.outputs)
    assert form is not None
    assert torch.equal(form.of_outputs(outputs), call.outputs)
    assert torch.equal(form.targets_from(call.targets, outputs), targets)
    losses = call.of(form)(outputs, targets)
    assert losses.shape[: len(of_targets)] == of_targets
    torch.testing.assert_close(losses.mean(), call.value)

    larger = [{B: 5, T: 9}.get(size, size) for size in shape]
    more = [{B: 5, T: 9}.get(size, size) for size in of_targets]
    outputs, targets = torch.randn(larger), draw(tuple(more))
    losses = call.of(form)(outputs, targets)
    expected = function(form_outputs(outputs), form_targets(targets), reduction="none")
    torch.testing.assert_close(losses.mean(), expected.mean())
    assert losses.shape[: len(more)] == tuple(more)
    first = losses.flatten()[0]  # that of the first position, whichever way the positions went through the loss
    place = (0,) * len(more)
    changed = targets.clone()
    changed[place] = (changed[place] + 1) % C
    other = call.of(form)(outputs, changed)
    assert (other != losses).sum() == 1
    assert other.flatten()[0] != first


@pytest.mark.parametrize("name", CLASSES)
def test_forms_of_classes(name: str) -> None:
    check(F.cross_entropy, CLASSES[name], lambda shape: torch.randint(C, shape))


@pytest.mark.parametrize("name", NUMBERS)
def test_forms_of_numbers(name: str) -> None:
    check(F.mse_loss, NUMBERS[name], torch.randn)


def test_as_many_steps_as_sequences_are_told_apart_by_their_numbers() -> None:
    outputs = torch.randn(6, 6, C)
    for given in (outputs.flatten(0, 1), outputs.transpose(0, 1).flatten(0, 1)):
        form = form_between(outputs, given)
        assert form is not None
        assert torch.equal(form.of_outputs(outputs), given)


def test_what_is_no_plain_form_is_not_guessed() -> None:
    outputs = torch.randn(B, T, C)
    assert form_between(outputs, outputs[:, -1] + 1e-6) is None
    assert form_between(outputs, outputs[:, 0]) is None
    assert form_between(outputs, torch.randn(2, 2)) is None
    assert form_between(torch.randn(()), torch.randn(2)) is None


def test_outputs_that_are_not_finite_have_a_form_too() -> None:
    outputs = torch.randn(B, T, C)
    outputs[0, -1] = torch.nan
    form = form_between(outputs, outputs[:, -1])
    assert form is not None
    assert form.of_outputs(outputs).shape == (B, C)


def test_options_of_the_script_hold_but_for_the_reduction() -> None:
    outputs, targets = torch.randn(B, T, C), torch.randint(C, (B, T))
    targets[:, :2] = 0
    call = caught(
        F.cross_entropy, outputs.flatten(0, 1), targets.flatten(), ignore_index=0, reduction="sum", label_smoothing=0.1
    )
    form = form_between(outputs, call.outputs)
    assert form is not None
    losses = call.of(form)(outputs, targets)
    assert losses.shape == (B, T)
    assert not losses[targets == 0].any()
    torch.testing.assert_close(losses.sum(), call.value)


@pytest.mark.parametrize("function", LOSS_FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_takes_outputs_targets_and_a_reduction(function: Callable[..., Tensor]) -> None:
    outputs = torch.rand(B, C) * 0.9 + 0.05
    of_classes = function in (F.cross_entropy, F.nll_loss)
    targets = torch.randint(C, (B,)) if of_classes else torch.rand(B, C)
    call = CaughtLoss(function, outputs, targets, {}, outputs, outputs)
    losses = call.of(form_between(outputs, outputs))(outputs, targets)
    assert losses.shape == targets.shape


@pytest.mark.parametrize(
    ("module", "function"),
    [(nn.CrossEntropyLoss(), F.cross_entropy), (nn.MSELoss(), F.mse_loss), (nn.L1Loss(), F.l1_loss)],
)
def test_modules_call_these_functions(module: nn.Module, function: Callable[..., Tensor]) -> None:
    outputs = torch.randn(B, C)
    targets = torch.randint(C, (B,)) if function is F.cross_entropy else torch.randn(B, C)
    assert function in LOSS_FUNCTIONS
    torch.testing.assert_close(module(outputs, targets), function(outputs, targets))


def test_a_number_is_not_what_a_loss_of_many_was_given() -> None:
    many = torch.randn(T, B, C)
    assert form_between(torch.tensor(0.0), many, torch.randn(T, B, C)) is None
