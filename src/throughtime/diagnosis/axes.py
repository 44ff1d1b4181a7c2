"""Which axis of the inputs is time: as told, as the targets show it, as the model's own modules have it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward, replaced
from throughtime.measurement.axes import settled_axes as axes_as_read
from throughtime.measurement.probe import Axes, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["SettledAxes", "settled_axes"]

_FEWEST_CALLS = 3


@dataclass(frozen=True)
class SettledAxes:
    """Time and sequences in the inputs, and whether the targets and the modules agree.

    Attributes:
        axes: as the user's data have them.
        by: "told", "targets", "modules", "calls" or "spread": what says so.
        of_modules: as the recurrent modules read them, where these say so; a model that turns its inputs round was run
            for it.
    """

    axes: Axes
    by: str
    of_modules: Axes | None

    @property
    def conflict(self) -> bool:
        """Whether the recurrent modules take one of the data's axes for the other."""
        return self.of_modules is not None and self.of_modules != self.axes


def settled_axes(case: Case) -> SettledAxes:
    """The axes of a case.

    Raises:
        Missing: if nothing says which is which, or the inputs are one sequence without an axis of sequences.
    """
    x = first_tensor(case.inputs)
    if isinstance(x, PackedSequence):
        return SettledAxes(Axes(0, 1), "told", None)
    if x.dim() < 2:
        raise Missing(f"inputs with an axis of time and one of sequences; they have shape {tuple(x.shape)}")
    of_modules = _of_modules(case)
    if case.time_dim is not None:
        return SettledAxes(Axes(case.time_dim, 1 - case.time_dim), "told", of_modules)
    by_targets = _batch_of_targets(case, x)
    if by_targets is not None:
        return SettledAxes(Axes(1 - by_targets, by_targets), "targets", of_modules)
    if of_modules is not None:
        return SettledAxes(of_modules, "modules", of_modules)
    by_calls = _time_of_calls(case, x)
    if by_calls is not None:
        return SettledAxes(Axes(by_calls, 1 - by_calls), "calls", None)
    by_spread = _time_of_spread(case, x)
    if by_spread is not None:
        return SettledAxes(Axes(by_spread, 1 - by_spread), "spread", None)
    raise Missing(f"time_dim: nothing says which axis of inputs of shape {tuple(x.shape)} is time")


def _of_modules(case: Case) -> Axes | None:
    """As recurrent modules that are given the whole sequence read them.

    Raises:
        Missing: if they read one sequence.
    """
    try:
        axes, alone = axes_as_read(case.model, case.inputs, None, None)
    except InputError:
        return None
    if alone:
        shape = tuple(first_tensor(case.inputs).shape)
        raise Missing(f"a batch: the model reads inputs of shape {shape} as one sequence, without an axis of sequences")
    return axes


def _batch_of_targets(case: Case, x: Tensor) -> int | None:
    """The axis of sequences, where one target or length for each sequence tells it from time."""
    sizes = x.shape[:2]
    if sizes[0] == sizes[1]:
        return None
    for one_each in (case.lengths, case.targets):
        if one_each is None:
            continue
        if 1 in sizes and one_each is case.targets:
            continue  # of one sequence, a target for each step looks like one for each sequence of one step
        of_each = one_each if isinstance(one_each, Tensor) else torch.as_tensor(one_each)
        if of_each.dim() and (of_each.dim() == 1 or tuple(of_each.shape[:2]) not in (sizes, sizes[::-1])):
            matching = [axis for axis in (0, 1) if sizes[axis] == of_each.size(0)]
            if len(matching) == 1:
                return matching[0]
    return None


def _time_of_calls(case: Case, x: Tensor) -> int | None:
    """The axis that is as long as a module is called often: a model with a loop of its own over time."""
    counts: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        counts[module] = counts.get(module, 0) + 1

    handles = [module.register_forward_hook(count) for module in case.model.modules() if module is not case.model]
    try:
        with left_as_found(case.model), torch.no_grad():
            forward(case.model, case.inputs)
    except Exception as error:
        raise InputError(f"the model fails on these inputs ({type(error).__name__}: {error})") from error
    finally:
        for handle in handles:
            handle.remove()
    found = {axis for n in counts.values() if n >= _FEWEST_CALLS for axis in (0, 1) if x.size(axis) in (n, n + 1)}
    return found.pop() if len(found) == 1 else None


def _time_of_spread(case: Case, x: Tensor) -> int | None:
    """The axis along which a change of the first inputs is heard at other places, if it is along one of them alone."""
    heard = []
    for axis in (0, 1):
        if x.size(axis) < _FEWEST_CALLS:
            return None
        changed = x.clone()
        changed.select(axis, 0).copy_(x.select(axis, 1))
        with left_as_found(case.model), torch.no_grad():
            case.model.eval()
            one, other = (first_output(forward(case.model, replaced(case.inputs, x, given))) for given in (x, changed))
        if one.shape != other.shape or tuple(one.shape[:2]) != tuple(x.shape[:2]):
            return None
        moved = (one != other).movedim(axis, 0).flatten(1).any(1)
        heard.append(bool(moved[1:].any()))
    return heard.index(True) if sum(heard) == 1 else None
