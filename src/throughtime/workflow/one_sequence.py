"""A model that reads one sequence at a time, without an axis for several, as one that reads a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward, tensors_within
from throughtime.measurement.spectrum_calls import left_as_found
from throughtime.remedy.hooking import outer_recurrences
from throughtime.workflow.earlier_batches import EarlierBatches
from throughtime.workflow.replay import Replay
from throughtime.workflow.replay_inputs import FEWEST_STEPS

__all__ = ["OneSequence", "as_batch"]


def as_batch(given: dict[str, Any], earlier: EarlierBatches) -> dict[str, Any]:
    """Arguments of a diagnosis, with an axis of sequences behind that of time where the model reads just one of them.

    The recurrences of the model tell: one of T steps is called once on (T, F), on (T, 1, F), or T times on (1, F). What
    it was given before, as far as it is as long, is a batch for validation.

    Args:
        given: model, inputs, targets and loss, and what there is besides.
        earlier: sequences that the model was given before.
    """
    model, inputs, targets = given["model"], given["inputs"], given["targets"]
    x, *beside = inputs if isinstance(inputs, tuple) else (inputs,)
    if not all(isinstance(each, Tensor) for each in (x, *beside)):
        return given
    steps = x.size(0) if x.dim() == (2 if x.is_floating_point() else 1) else 0
    outputs = _outputs(model, inputs, steps) if steps >= FEWEST_STEPS else None
    if outputs is None:
        return given
    of_outputs = _Axis.of(outputs, steps)
    of_targets = _Axis.of(targets, steps) if isinstance(targets, Tensor) else None
    of_inputs = (_Axis(1, isinstance(model, Replay)), *(_Axis.of(each, steps) for each in beside))
    joined = (x.unsqueeze(1), *(axis.joined([each]) for axis, each in zip(of_inputs[1:], beside, strict=True)))
    others = [] if of_targets is None or beside else earlier.alike(x, targets)
    if of_targets is not None and others:
        more, wanted = zip(*others, strict=True)
        given = {**given, "validation": (torch.stack(more, 1), of_targets.joined(wanted))}
    return {
        **given,
        "model": OneSequence(model, of_inputs, of_outputs),
        "inputs": joined if beside else joined[0],
        "targets": targets if of_targets is None else of_targets.joined([targets]),
        "loss": _LossOfEach(given["loss"], of_outputs, of_targets, steps),
        "time_dim": 0,
    }


@dataclass(frozen=True)
class _Axis:
    """Where the sequences lie in what is a tensor for each of them: behind the steps, or first where it has no steps.

    Attributes:
        place: of the axis.
        is_there: whether the tensor of one has it too, of size 1.
    """

    place: int
    is_there: bool

    @classmethod
    def of(cls, tensor: Tensor, steps: int) -> _Axis:
        """Of a tensor of one sequence."""
        place = 1 if tensor.dim() and tensor.size(0) == steps else 0
        return cls(place, tensor.dim() > place and tensor.size(place) == 1)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Those of several sequences as one."""
        return torch.cat(list(parts), self.place) if self.is_there else torch.stack(list(parts), self.place)

    def apart(self, joined: Tensor) -> tuple[Tensor, ...]:
        """The way back."""
        return torch.split(joined, 1, self.place) if self.is_there else joined.unbind(self.place)


class OneSequence(nn.Module):
    """Calls a model on each sequence of a batch.

    Args:
        model: of one sequence, (T, ...), and what it is called with besides, such as a state.
        of_inputs: where the sequences lie in these.
        of_outputs: and in what it returns.
    """

    def __init__(self, model: nn.Module, of_inputs: Sequence[_Axis], of_outputs: _Axis) -> None:
        super().__init__()
        self.model = model
        self._of_inputs, self._of_outputs = tuple(of_inputs), of_outputs

    def forward(self, *inputs: Tensor) -> Tensor:
        """(T, B, ...) and what there is besides -> outputs (T, B, ...) or (B, ...)."""
        apart = [axis.apart(each) for axis, each in zip(self._of_inputs, inputs, strict=True)]
        return self._of_outputs.joined([first_output(self.model(*one)) for one in zip(*apart, strict=True)])


@dataclass(frozen=True)
class _LossOfEach:
    """The loss of each sequence, (T, B) or (B,); of the outputs alone where there are no targets."""

    loss: Callable[..., Tensor]
    of_outputs: _Axis
    of_targets: _Axis | None
    steps: int

    def __call__(self, outputs: Tensor, *targets: Tensor) -> Tensor:
        parts: list[tuple[Tensor, ...]] = [(one,) for one in self.of_outputs.apart(outputs)]
        if self.of_targets is not None:
            parts = [(*one, two) for one, two in zip(parts, self.of_targets.apart(*targets), strict=True)]
        losses = [self.loss(*each) for each in parts]
        return _Axis.of(losses[0], self.steps).joined(losses)


def _outputs(model: nn.Module, inputs: Any, steps: int) -> Tensor | None:
    """What the model returns; None unless its recurrences read one sequence of so many steps."""
    if isinstance(model, Replay) and model.reads_one_sequence:
        with left_as_found(model), torch.no_grad():
            return first_output(forward(model, inputs))
    one_a_call: list[bool] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = next(tensors_within((args, dict(kwargs))))
        one_a_call.append(_is_of_one(module, given, steps))

    recurrences = list(outer_recurrences(model))
    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in recurrences]
    try:
        with left_as_found(model), torch.no_grad():
            outputs = first_output(forward(model, inputs))
    except (InputError, RuntimeError):
        return None  # whoever diagnoses it says what is wrong
    finally:
        for handle in handles:
            handle.remove()
    calls = sum(steps if isinstance(module, nn.RNNCellBase) else 1 for module in recurrences)
    return outputs if recurrences and len(one_a_call) == calls and all(one_a_call) else None


def _is_of_one(module: nn.Module, x: Tensor, steps: int) -> bool:
    """Whether what a recurrence is called with is of one sequence, whole, or a step of it for a cell."""
    if isinstance(module, nn.RNNCellBase):
        return x.dim() == 1 or x.size(0) == 1
    time = int(x.dim() == 3 and bool(getattr(module, "batch_first", False)))
    return x.size(time) == steps and (x.dim() == 2 or x.size(1 - time) == 1)
