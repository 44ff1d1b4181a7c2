"""What was caught of a script's last step, as arguments of `throughtime.diagnose`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError
from throughtime.measurement.arguments import tensors_within
from throughtime.workflow.caught_loss import LOSS_FUNCTIONS, PER_STEP, CaughtLoss, form_between
from throughtime.workflow.replay import Replayed, called_in_turn, loss_after, replayed
from throughtime.workflow.step_tape import Call

__all__ = ["as_one_model", "as_replay", "is_loop_over_time"]

_CAT = (torch.cat, torch.concat, torch.concatenate)


def as_one_model(model: nn.Module, called: tuple[Any, Any], loss: CaughtLoss) -> dict[str, Any] | None:
    """Of a model that is called once with the whole batch; None where its output is not plainly what the loss takes.

    Args:
        model: of the script.
        called: (inputs, what it returned).
        loss: the last call.
    """
    inputs, returned = called
    try:
        outputs = first_output(returned)
    except InputError:
        return None
    form = form_between(outputs, loss.outputs, loss.targets)
    if form is None:
        return None
    return {
        "model": model,
        "inputs": inputs,
        "targets": form.targets_from(loss.targets, outputs),
        "loss": loss.of(form),
    }


def as_replay(
    calls: Sequence[Call],
    losses: Sequence[CaughtLoss],
    root: Tensor | None,
    weights: Mapping[str, nn.Parameter] | None = None,
) -> dict[str, Any] | None:
    """Of all that the script calls in a step, made again as one model; None where that cannot be.

    Args:
        calls: of the step.
        losses: calls of torch's loss functions in it.
        root: what its backward pass began from.
        weights: as for `replayed`.
    """
    again = partial(replayed, calls, weights=weights)
    if losses and len({(loss.function, loss.outputs.shape, loss.targets.shape) for loss in losses}) == 1:
        one, of_functions = losses[0], weights is not None
        found = _of_each_step(again, losses) if len(losses) > 1 else _of_one_loss(calls, again, one, of_functions)
        if found is not None:
            return found
    if root is None:
        return None
    outputs = _last_outputs(calls)
    whole, loss = again(outputs), loss_after(calls, outputs, root)
    if whole is not None and loss is not None:
        return _arguments(whole, None, loss)
    whole = again([root])
    return None if whole is None else _arguments(whole, None, _mean)


def _last_outputs(calls: Sequence[Call]) -> list[Tensor]:
    """What the module called last gives, or at each step of a loop over time that it is called in."""
    modules = [call.function for call in calls if isinstance(call.function, nn.Module) and _has_weights(call.function)]
    if not modules:
        return []
    own = [call for call in calls if call.function is modules[-1]]
    if not any(called_in_turn(calls, module) for module in set(modules)):
        own = own[-1:]
    found = [next((part for part in tensors_within(call.result) if part.is_floating_point()), None) for call in own]
    return [part for part in found if part is not None]


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def is_loop_over_time(calls: Sequence[Call], module: nn.Module) -> bool:
    """Whether the script itself goes from step to step, and gives a module one step at a time."""
    if not called_in_turn(calls, module):
        return False
    first = next(tensors_within(next(call.args for call in calls if call.function is module)), None)
    of_many_steps = first is not None and first.dim() > 1 and min(first.shape[:2]) > 1
    return not (of_many_steps and any(isinstance(part, nn.RNNBase) for part in module.modules()))


def _of_one_loss(
    calls: Sequence[Call], again: Callable[[Sequence[Tensor]], Replayed | None], loss: CaughtLoss, of_functions: bool
) -> dict[str, Any] | None:
    """The output that the loss's is a plain form of, the latest one, so that its axes are told apart.

    It comes from a module; with `of_functions` from a function that does more than to arrange what there is.
    """
    for output, parts in _candidates(calls, loss, of_functions):
        form = form_between(output, loss.outputs, loss.targets)
        whole = again(parts) if form is not None else None
        if form is not None and whole is not None:
            return _arguments(whole, form.targets_from(loss.targets, output), loss.of(form))
    if loss.function not in LOSS_FUNCTIONS:
        return None  # of a residual of what is no plain form of an output nobody knows how its axes lie
    whole = again([loss.source])
    form = form_between(loss.outputs, loss.outputs)
    return None if whole is None or form is None else _arguments(whole, loss.targets, loss.of(form))


def _candidates(
    calls: Sequence[Call], loss: CaughtLoss, of_functions: bool
) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
    """(an output, the tensors that a replay makes it of), the likelier ones first."""
    steps = _put_end_to_end(calls, loss.source) if of_functions else []
    if steps:
        yield torch.stack(steps).detach(), steps
    for call in reversed(calls):
        if call.is_module or (of_functions and not _arranges(call)):
            yield from ((part.detach(), [part]) for part in tensors_within(call.result) if part.is_floating_point())


def _put_end_to_end(calls: Sequence[Call], tensor: Tensor) -> list[Tensor]:
    """Outputs of three and more steps, whose examples a script has laid one after another; empty where it has not."""
    made = next((call for call in calls if any(part is tensor for part in tensors_within(call.result))), None)
    if made is None or made.function not in _CAT or made.kwargs.get("dim", made.args[1] if made.args[1:] else 0) != 0:
        return []
    parts = list(tensors_within((made.args, made.kwargs)))
    return parts if len(parts) > 2 and len({part.shape for part in parts}) == 1 else []


def _arranges(call: Call) -> bool:
    """Whether what a call returns is a view of what it was given."""
    result = next(tensors_within(call.result), None)
    return result is not None and result._is_view()


def _of_each_step(
    again: Callable[[Sequence[Tensor]], Replayed | None], losses: Sequence[CaughtLoss]
) -> dict[str, Any] | None:
    """A loss at each time step: outputs (T, B, ...) and targets (T, B, ...)."""
    whole = again([loss.source for loss in losses])
    if whole is None:
        return None
    return _arguments(whole, torch.stack([loss.targets for loss in losses]), losses[-1].of(PER_STEP))


def _arguments(whole: Any, targets: Tensor | None, loss: Any) -> dict[str, Any]:
    given = {"model": whole.model, "inputs": whole.inputs, "targets": targets, "loss": loss}
    return given | ({"time_dim": 0} if whole.time_first else {})


def _mean(loss: Tensor) -> Tensor:
    """Of a model that gives its own loss."""
    return loss.mean()
