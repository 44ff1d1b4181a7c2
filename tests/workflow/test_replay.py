"""A step of a script made again as one model: the same numbers, the same gradients, and new ones for new inputs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.workflow.replay import Replayed, called_in_turn, loss_after, replayed
from throughtime.workflow.step_tape import Call, StepTape

STEPS, BATCH, KINDS = 5, 4, 6


class Parts:
    """An encoder and a decoder as a script has them, and what the script does with them, on tape."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.embed, self.encoder = nn.Embedding(KINDS, 3), nn.GRU(3, 8)
        self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, KINDS)
        self.mix, self.first, self.head_of = nn.Linear(11, 8), nn.Linear(3, 4), nn.Embedding(KINDS, 8)
        self.ids, self.wanted = torch.randint(KINDS, (STEPS, BATCH)), torch.randint(KINDS, (STEPS, BATCH))

    def on_tape(self, step: object) -> tuple[StepTape, object]:
        tape = StepTape()

        def before(*_: object) -> None:
            tape.depth += 1

        def after(module: nn.Module, args: tuple, kwargs: dict, result: object) -> None:
            tape.depth -= 1
            if tape.depth == 0:
                tape.of_module(module, args, kwargs, result)

        hooks = torch.nn.modules.module
        handles = [
            hooks.register_module_forward_pre_hook(before),
            hooks.register_module_forward_hook(after, with_kwargs=True),
        ]
        try:
            with tape:
                found = step()  # type: ignore[operator]
        finally:
            for handle in handles:
                handle.remove()
                hooks._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it
        return tape, found

    def chained(self) -> Tensor:
        """One after the other, with something in between."""
        return self.head(self.encoder(self.embed(self.ids))[0].tanh()[1:] * 2)

    def looped(self) -> list[Tensor]:
        """A loop over time in the script: teacher forcing."""
        h = self.encoder(self.embed(self.ids))[1][0]
        found = []
        for ids in self.wanted:
            h = self.cell(self.embed(ids), h)
            found.append(self.head(h))
        return found

    def buffered(self) -> Tensor:
        """Outputs written into a buffer, and a first state of zeros."""
        h, outputs = torch.zeros(BATCH, 8), torch.zeros(STEPS, BATCH, KINDS)
        for t in range(STEPS):
            h = self.cell(self.embed(self.ids[t]), h)
            outputs[t] = self.head(h)
        return outputs

    def joining(self) -> Tensor:
        """A loop over time that joins each input with a state of zeros at first; and something alike beside it."""
        x, scale = torch.randn(STEPS, BATCH, 3), torch.rand(BATCH, KINDS)
        h = torch.zeros(BATCH, 8)
        for t in range(STEPS):
            h = self.mix(torch.cat([x[t], h], 1)).tanh()
        self.x, self.other = x, scale * 2
        return self.head(h) * 2 * self.other


def replay_of(parts: Parts, step: object) -> tuple[Replayed, list[Tensor], list[Call]]:
    tape, found = parts.on_tape(step)
    outputs = found if isinstance(found, list) else [found]
    whole = replayed(tape.calls, outputs)
    assert whole is not None
    return whole, outputs, tape.calls


def called(whole: Replayed, *inputs: Tensor) -> Tensor:
    given = inputs or (whole.inputs if isinstance(whole.inputs, tuple) else (whole.inputs,))
    return whole.model(*given)


@pytest.mark.parametrize("name", ["chained", "looped", "buffered"])
def test_it_gives_the_same_numbers_and_gradients(name: str) -> None:
    parts = Parts()
    whole, outputs, _ = replay_of(parts, getattr(parts, name))
    wanted = torch.stack(outputs) if len(outputs) > 1 else outputs[0]
    again = called(whole)
    assert torch.equal(again, wanted)
    weights = list(whole.model.parameters())
    own, theirs = (torch.autograd.grad(found.square().sum(), weights) for found in (again, wanted))
    for one, two in zip(own, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_a_loop_over_time_becomes_one_input_with_time_first() -> None:
    parts = Parts()
    whole, _, calls = replay_of(parts, parts.buffered)
    assert whole.time_first
    assert torch.equal(whole.inputs, parts.ids)
    assert called_in_turn(calls, parts.cell)
    assert not called_in_turn(calls, parts.head)
    other = (parts.ids + 1) % KINDS
    parts.ids = other
    assert torch.equal(called(whole, other), parts.buffered())
    assert torch.equal(called(whole, other), called(whole, other))  # its buffer is a new one at each call


def test_a_smaller_batch_gets_a_smaller_state_of_zeros() -> None:
    parts = Parts()
    whole, _, _ = replay_of(parts, parts.buffered)
    torch.testing.assert_close(called(whole, parts.ids[:, 1:3]), parts.buffered()[:, 1:3])


def test_what_comes_after_the_outputs_is_the_loss() -> None:
    parts = Parts()
    kept: list[Tensor] = []

    def step() -> Tensor:
        kept.extend(parts.looped())
        pairs = zip(kept, parts.wanted, strict=True)
        picked = [logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)) for logits, ids in pairs]
        return -torch.stack(picked).mean()

    tape, root = parts.on_tape(step)
    assert isinstance(root, Tensor)
    loss = loss_after(tape.calls, kept, root)
    assert loss is not None
    assert torch.equal(loss(torch.stack(kept)), root)
    assert not torch.equal(loss(torch.stack(kept) * 2), root)
    assert loss_after(tape.calls, kept[1:], root) is None  # the first one goes into it as well


def test_a_copy_has_weights_of_its_own() -> None:
    parts = Parts()
    whole, outputs, _ = replay_of(parts, parts.looped)
    twin = copy.deepcopy(whole.model)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert not bool(called(Replayed(twin, whole.inputs, time_first=True)).any())
    assert torch.equal(called(whole), torch.stack(outputs))
    assert {name.split(".")[0] for name, _ in whole.model.named_parameters()} == {
        "embedding",
        "gru",
        "grucell",
        "linear",
    }


def test_what_does_not_come_from_a_module_is_no_model() -> None:
    parts = Parts()
    tape, found = parts.on_tape(parts.chained)
    assert isinstance(found, Tensor)
    assert replayed(tape.calls, [torch.ones(3)]) is None
    assert replayed([], [found]) is None


def test_what_the_modules_call_inside_is_not_on_tape() -> None:
    parts = Parts()
    tape, _ = parts.on_tape(parts.chained)
    assert [call.function for call in tape.calls if call.is_module] == [parts.embed, parts.encoder, parts.head]
    assert len(tape.calls) == 6  # tanh, a slice and a product besides


def test_a_new_step_begins_with_the_first_module_after_a_backward_pass() -> None:
    parts = Parts()
    tape, _ = parts.on_tape(parts.chained)
    before = len(tape.calls)
    tape.end_step()
    tape.of_module(parts.head, (torch.ones(8),), {}, parts.head(torch.ones(8)))
    assert (before, len(tape.calls)) == (6, 1)


def test_the_first_turn_of_a_loop_is_told_by_the_later_ones() -> None:
    parts = Parts()
    tape, found = parts.on_tape(parts.joining)
    (first,) = tape.first_turns
    assert first.function is torch.cat
    whole = replayed([first, *tape.calls], [found], {})  # type: ignore[list-item]
    assert whole is not None
    assert whole.time_first
    x, other = whole.inputs
    assert torch.equal(x, parts.x)
    assert torch.equal(other, parts.other)
    assert torch.equal(called(whole), found)  # type: ignore[arg-type]
    new = torch.randn(STEPS, 2, 3)
    h = torch.zeros(2, 8)
    for each in new:
        h = parts.mix(torch.cat([each, h], 1)).tanh()
    assert torch.equal(called(whole, new, other[:2]), parts.head(h) * 2 * other[:2])
    tape.end_update()
    with tape:
        torch.ones(2) + 1
    assert tape.first_turns == []


def test_an_evaluation_with_gradients_is_not_kept() -> None:
    parts = Parts()
    tape = StepTape()
    for _ in range(1000):
        tape.of_module(parts.head, (torch.ones(8),), {}, parts.head(torch.ones(8)))
        assert len(tape.calls) <= 256
    assert tape.calls == []
    tape.end_step()
    tape.of_module(parts.head, (torch.ones(8),), {}, parts.head(torch.ones(8)))
    assert len(tape.calls) == 1


@pytest.mark.parametrize(
    ("function", "changes"),
    [(Tensor.__setitem__, True), (Tensor.add_, True), (Tensor.__iadd__, True), (Tensor.add, False), (F.relu, False)],
)
def test_functions_that_write_are_told_by_their_names(function: object, changes: bool) -> None:
    assert (Call(function, (torch.ones(2),), {}, None).written is not None) is changes  # type: ignore[arg-type]


def test_inputs_of_a_loop_come_first_and_single_ids_count_where_they_differ() -> None:
    parts = Parts()
    kind, ids, start = torch.randn(1, 3), torch.tensor([[1], [2], [2], [4]]), torch.tensor([0])

    def stepwise() -> Tensor:
        h = torch.cat([parts.first(kind), parts.first(kind)], 1) + parts.head_of(start)
        for each in ids:
            h = parts.cell(parts.embed(each), h)
        return parts.head(h)

    whole, (found,), _ = replay_of(parts, stepwise)
    assert whole.time_first
    assert [tuple(each.shape) for each in whole.inputs] == [(4, 1), (1, 3)]
    assert torch.equal(called(whole), found)
    assert not torch.equal(called(whole, ids.flip(0), kind), found)
