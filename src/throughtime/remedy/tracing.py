"""What is what in a recurrence written by hand, found by calling the model: matrices, biases, gates and readers.

A weight belongs to the recurrence if changing it changes, at a later call, what it is itself multiplied by. Of what it
is multiplied by, the columns that an earlier input moves, and the present one does not reach first, are the state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from throughtime.measurement.arguments import forward
from throughtime.measurement.probe import first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["hand_written_parts"]

_PRODUCTS = {F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.addmm, Tensor.addmm}
_SIGMOID = {torch.sigmoid, Tensor.sigmoid, F.sigmoid}
_MOST_SEQUENCES, _MOST_STEPS = 4, 12
_MOVES = 6
_FEWEST_CALLS = 3
_LEFT, _MOST_LEFT = 0.5, 2.0
"""A gate at that end keeps the state where so much of a change is left after the last step."""


@dataclass
class _Trace(TorchFunctionMode):
    """Call by call, what each weight of a model is multiplied by, and what its sigmoids are given.

    Attributes:
        names: of the parameters, by the place of their numbers.
        factors: by the name of a weight, what it was multiplied by.
        gates: sums that went into sigmoids.
    """

    names: dict[int, str]
    factors: dict[str, list[Tensor]] = field(default_factory=dict)
    gates: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [value for value in args if isinstance(value, Tensor)]
        if func in _PRODUCTS and len(tensors) > 1:
            pair = tensors[1:3] if func in (torch.addmm, Tensor.addmm) else tensors[:2]
            for weight, factor in (pair, pair[::-1]):
                name = self.names.get(weight.data_ptr()) if weight.dim() == 2 else None
                if name is not None:
                    self.factors.setdefault(name, []).append(factor.detach().clone())
        elif func in _SIGMOID and tensors:
            self.gates.append(tensors[0].detach().clone())
        return func(*args, **(kwargs or {}))


def hand_written_parts(model: nn.Module, inputs: Any, *, time_dim: int | None = None) -> tuple[str, ...]:
    """The parts of a recurrence that is stepped in Python, as `throughtime.remedy.hand_written` takes them.

    Args:
        model: without recurrent modules; it is copied.
        inputs: of a batch.
        time_dim: axis of time in them; 1 unless given.

    Returns:
        Nothing where no recurrence is found.
    """
    try:
        model = copy.deepcopy(model).eval()
        short = _short(inputs, 1 if time_dim is None else time_dim)
        return _parts(model, *short) or _parts(_drawn_anew(model), *short)
    except Exception:
        return ()  # a model that cannot be copied or called on fewer steps has nothing that is known


def _drawn_anew(model: nn.Module) -> nn.Module:
    """With small random weights: where units are dead or saturated no change of a weight shows at all."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.size(-1) ** -0.5)
            else:
                parameter.zero_()
    return model


def _short(inputs: Any, time: int) -> tuple[Any, Tensor, int]:
    """Some sequences and steps, the first tensor among them, and its axis of time."""
    x = first_tensor(inputs)
    if isinstance(x, PackedSequence) or x.dim() < 2:
        raise ValueError("a recurrence written by hand reads padded sequences")
    short = x.narrow(time, 0, min(_MOST_STEPS, x.size(time))).narrow(
        1 - time, 0, min(_MOST_SEQUENCES, x.size(1 - time))
    )
    return short, short, time


def _parts(model: nn.Module, inputs: Any, x: Tensor, time: int) -> tuple[str, ...]:
    names = {p.data_ptr(): name for name, p in model.named_parameters()}
    own = dict(model.named_parameters())

    def traced(values: Any = inputs) -> _Trace:
        trace = _Trace(names)
        with left_as_found(model), torch.no_grad(), trace:
            forward(model, values)
        return trace

    base = traced()
    called = {name: calls for name, calls in base.factors.items() if len(calls) >= _FEWEST_CALLS}
    changed = _changing(own, called, traced)
    recurrent = {name for name in called if name in changed[name]}
    moved = _with_first_step_moved(x, time)
    state = _state_columns(called, traced, [moved, *_with_other_first_steps(x, time)])
    found: list[str] = []
    inside = {name for name in called if changed[name] & recurrent}
    for name in inside:
        weight = own[name]
        if not weight.requires_grad:
            continue
        columns = state[name] if name in recurrent else torch.zeros_like(state[name])
        found += [f"{kind} {name}{where}" for kind, where in _sliced(weight, called[name][0].size(-1), columns)]
    found += _biases(own, base, inside, traced, moved)
    found += [
        f"reader {name.rpartition('.')[0]}" for name in called if name not in inside and _reads(model, name, state)
    ]
    return tuple(found) if recurrent else ()


def _changing(
    own: dict[str, nn.Parameter], called: dict[str, list[Tensor]], traced: Callable[[], _Trace]
) -> dict[str, set[str]]:
    """For each weight those whose factors change, at the second call or later, when it is changed."""
    found = {}
    for name in called:
        weight = own[name].data
        kept = weight.clone()
        weight.add_(0.1 * torch.randn_like(weight) * (1e-3 + weight.abs().mean()))
        after = traced().factors
        weight.copy_(kept)
        found[name] = {
            other
            for other, calls in called.items()
            if any(not torch.equal(a, b) for a, b in zip(calls[1:], after.get(other, [])[1:], strict=False))
        }
    return found


def _with_first_step_moved(x: Tensor, time: int) -> Tensor:
    """Other inputs in the first step; of ids those of another sequence."""
    moved = x.clone()
    first = moved.select(time, 0)
    first.copy_(first + 1.0 if x.is_floating_point() else first.roll(1, 0))
    return moved


def _with_other_first_steps(x: Tensor, time: int) -> list[Tensor]:
    """Several of them, at random: a unit that is off may be so for one input and not for another."""
    generator = torch.Generator(device=x.device).manual_seed(0)
    found = []
    for number in range(1, 1 + _MOVES):
        other = x.clone()
        first = other.select(time, 0)
        if x.is_floating_point():
            noise = torch.randn(first.shape, generator=generator, device=x.device, dtype=x.dtype)
            first.add_((1 + first.abs().mean()) * noise)
        else:
            first.copy_(first.roll(number, 0))
        found.append(other)
    return found


def _state_columns(
    called: dict[str, list[Tensor]], traced: Callable[..., _Trace], moved: list[Tensor]
) -> dict[str, Tensor]:
    """For each weight which columns of its factors the first step's input moves at the second call."""
    afters = [traced(values).factors for values in moved]
    return {
        name: torch.stack([(calls[1] != after[name][1]).flatten(0, -2).any(0) for after in afters]).any(0)
        for name, calls in called.items()
    }


def _sliced(weight: Tensor, width: int, columns: Tensor) -> list[tuple[str, str]]:
    """The parts of a weight that multiply the state and the input, as slices of the axis that has that width."""
    axis = 1 if weight.size(1) == width else 0
    places = columns.nonzero().flatten()
    if not places.numel():
        return [("input", "")]
    low, high = int(places[0]), int(places[-1]) + 1
    form = "[:, {}:{}]" if axis == 1 else "[{}:{}]"
    parts = [("recurrent", "" if (low, high) == (0, width) else form.format(low, high))]
    parts += [("input", form.format(0, low))] if low else []
    return parts + ([("input", form.format(high, width))] if high < width else [])


def _biases(
    own: dict[str, nn.Parameter],
    base: _Trace,
    inside: set[str],
    traced: Callable[..., _Trace],
    moved: Tensor,
) -> list[str]:
    """Biases beside the weights of the recurrence; of a gate's, on which side it keeps the state."""
    owners = {name.rpartition(".")[0] for name in inside}
    found = []
    for name, bias in own.items():
        if bias.dim() != 1 or name.rpartition(".")[0] not in owners or not bias.requires_grad:
            continue
        gate = _first_gate(bias, base, traced)
        if gate is None:
            found.append(f"bias {name}")
            continue
        found += _gate_parts(name, bias, gate, traced, moved)
    return found


def _first_gate(bias: nn.Parameter, base: _Trace, traced: Callable[[], _Trace]) -> Tensor | None:
    """(H,) bool: which of its units move a sigmoid's sum at the first step; None where none does."""
    kept = bias.data.clone()
    bias.data.add_(0.5)
    after = traced().gates
    bias.data.copy_(kept)
    per_step = max(1, len(base.gates) // max(1, len(next(iter(base.factors.values())))))
    for one, other in list(zip(base.gates, after, strict=False))[:per_step]:
        moved = (one != other).flatten(0, -2).any(0)
        if one.size(-1) == bias.numel() and bool(moved.all()):
            return moved
    return None


def _gate_parts(name: str, bias: nn.Parameter, gate: Tensor, traced: Callable[..., _Trace], moved: Tensor) -> list[str]:
    """A gate's bias in blocks of units, and for each whether it keeps the state where it is high, low, or neither."""
    width = _width(traced)
    blocks = gate.numel() // width if width and gate.numel() % width == 0 else 1
    size = gate.numel() // blocks
    found = []
    for block in range(blocks):
        where = "" if blocks == 1 else f"[{block * size}:{(block + 1) * size}]"
        part = bias.data[block * size : (block + 1) * size]
        high, low = (_persistence(part, value, traced, moved) for value in (12.0, -12.0))
        if not _MOST_LEFT > max(high, low) > _LEFT or min(high, low) > 0.5 * max(high, low):
            found.append(f"bias {name}{where}")
        else:
            found.append(f"{'keeps-high' if high >= low else 'keeps-low'} {name}{where}")
    return found


def _width(traced: Callable[[], _Trace]) -> int:
    """H: the narrowest factor that comes back."""
    return min((calls[0].size(-1) for calls in traced().factors.values()), default=0)


def _persistence(part: Tensor, value: float, traced: Callable[..., _Trace], moved: Tensor) -> float:
    """What is left at the last step of what the first input changed at the second, with a gate held at one end."""
    kept = part.clone()
    part.add_(value)
    one, other = traced().factors, traced(moved).factors
    part.copy_(kept)
    left = []
    for name, calls in one.items():
        changes = [float((a - b).norm()) for a, b in zip(calls, other.get(name, []), strict=False)]
        if len(changes) > _FEWEST_CALLS and changes[1] > 0:
            left.append(changes[-1] / changes[1])
    return max(left, default=0.0)


def _reads(model: nn.Module, name: str, state: dict[str, Tensor]) -> bool:
    """Whether a weight outside of the recurrence is multiplied by the state, and stands in a module of its own."""
    return bool(state[name].any()) and isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Linear)
