"""Long sequences in little memory: states are kept between segments alone, and the way back computes the rest again.

The plain way back through T steps wants what every step computed. Here the forward pass keeps the state before each
segment of n steps, and the backward pass runs one segment after the other again, the last one first, to get what its
steps computed. With S floats of state a step and A floats that the way back wants of a step,

    kept = T / n * S + n * A,    least at n = sqrt(T * S / A)

so what is kept grows as the square root of T, for one forward pass more.

*Reference*: Chen, Xu, Zhang & Guestrin 2016, *Training deep nets with sublinear memory cost*, arXiv:1604.06174; for
recurrent networks Gruslys, Munos, Danihelka, Lanctot & Graves 2016, *Memory-efficient backpropagation through time*,
arXiv:1606.03401, which also finds the best cuts for less memory still. Departure from both: segments of equal size,
and every one is run again, the last one too, so that one rule serves any T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.scan.contract import ScanCell, State

__all__ = ["SegmentScan", "checkpoint"]

SegmentScan = Callable[[ScanCell, Tensor, State, Tensor | None, Tensor | None], tuple[Tensor, State]]
"""Runs one segment: cell, x (T, B, I) not yet projected, state, reset, lengths -> outputs, final state."""

STATES_PER_STEP = 8
"""A / S: floats that the way back wants of a step, for each float of state. 2 to 11 are saved of one, by cell and scan,
and there are gradients besides; the sum is flat around its minimum."""

_TWICE = (
    "a checkpointed scan has no gradient of its gradient: use scan='loop' (Recurrent(..., scan='loop')) where second "
    "derivatives are needed"
)


def checkpoint(
    cell: ScanCell,
    x: Tensor,
    state: State,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    inner: SegmentScan,
    segment: int | None = None,
) -> tuple[Tensor, State]:
    """Run `cell` segment by segment, keeping for the way back the state before each segment and nothing else.

    Besides x, the outputs and the gradients by both, memory grows as the square root of T. (`loop` holds its outputs
    twice while it stacks them, and all that its steps computed.) The gradients are those of `inner`, by x, the state
    and all parameters of the cell; tensors that are neither, such as those that a closure holds, get none.

    The second run of a segment finds what the first one found: the parameters, also those that
    `torch.func.functional_call` lent, the modes (`train()`, `eval()`), autocast, and torch's random numbers. Yet the
    masks that a cell draws in `project` are drawn for each segment. Those of every step (`Zoneout`) are as many and as
    independent as ever; one mask for a whole sequence (`RecurrentDropout`) becomes one for each segment. A cell that
    changes its own buffers as it runs changes them twice, and is not for this scan.

    Args:
        cell: whose steps to run; a `torch.nn.Module`.
        x: (T, B, I), not yet projected.
        state: before the first step; each tensor (B, ...).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.
        inner: the scan that runs a segment; it has to give the same numbers whether gradients are on or off.
        segment: n, steps in a segment; about sqrt(T / 8), which keeps least, unless given. A smaller one keeps more
            states and fewer activations.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, ...).

    Raises:
        RecipeError: if `segment` is below 1.
        InputError: if the gradient of the gradient is asked for.

    Example:
        >>> from throughtime.cell import LSTM
        >>> from throughtime.scan import run
        >>> cell, inner = LSTM(3, 5), lambda *arguments: run("auto", *arguments)
        >>> x = torch.ones(100, 2, 3, requires_grad=True)
        >>> y, (h, c) = checkpoint(cell, x, cell.initial_state(2), inner=inner)
        >>> y.sum().backward()
        >>> y.shape, x.grad.shape
        (torch.Size([100, 2, 5]), torch.Size([100, 2, 3]))
    """
    segment = _least_memory_segment(x.size(0)) if segment is None else segment
    at_least("segment", segment, 1)
    if not x.numel():
        return inner(cell, x, state, reset, lengths)
    assert isinstance(cell, nn.Module)
    names, parameters = tuple(zip(*cell.named_parameters(), strict=True)) or ((), ())
    segments = _Segments(_Inner(cell, inner), names, segment, reset, lengths)
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *state, *parameters))):
        found = segments.run_all(x, state, parameters)
        return found.outputs, found.final
    apply: Callable[..., tuple[Tensor, ...]] = _Checkpointed.apply
    outputs, *final = apply(segments, len(state), x, *state, *parameters)
    return outputs, tuple(final)


class _Inner(nn.Module):
    """The inner scan of a cell as a module, so that `functional_call` can lend it other tensors as parameters."""

    def __init__(self, cell: nn.Module, inner: SegmentScan) -> None:
        super().__init__()
        self.cell = cell
        self.inner = inner

    def forward(self, x: Tensor, state: State, reset: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        return self.inner(cast(ScanCell, self.cell), x, state, reset, lengths)


@dataclass(frozen=True, eq=False)
class _Segments:
    """A sequence cut into segments, and the scan that runs one.

    Attributes:
        inner: the scan.
        names: of the cell's parameters.
        size: steps in a segment; the last may have fewer.
        reset: (T, B) bool.
        lengths: (B,) integers from 0 to T.
    """

    inner: _Inner
    names: tuple[str, ...]
    size: int
    reset: Tensor | None
    lengths: Tensor | None

    def run(self, begin: int, x: Tensor, state: State, parameters: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The segment from step `begin` on, of which x (n, B, I) is the input.

        The cell's own parameters stay out of it: hooks on them would see the gradient of each segment.
        """
        end = begin + x.size(0)
        reset = None if self.reset is None else self.reset[begin:end]
        lengths = None if self.lengths is None else (self.lengths - begin).clamp(0, x.size(0))
        lent = {f"cell.{name}": parameter for name, parameter in zip(self.names, parameters, strict=True)}
        return cast(tuple[Tensor, State], functional_call(self.inner, lent, (x, state, reset, lengths)))

    @torch.no_grad()
    def run_all(self, x: Tensor, state: State, parameters: Sequence[Tensor]) -> _Found:
        """All segments, without a graph."""
        parameters = [parameter.detach() for parameter in parameters]
        begins = range(0, x.size(0), self.size)
        outputs: Tensor = x
        ends: State = ()
        generators = [_generators(x.device)]
        for index, begin in enumerate(begins):
            part, final = self.run(begin, x[begin : begin + self.size], state, parameters)
            if index == 0:
                outputs = part.new_empty(x.size(0), *part.shape[1:])
                # One block for each part of the state: small blocks that stay, laid down between the large ones of a
                # segment that go, would leave holes into which the next segment does not fit.
                ends = tuple(end.new_empty(len(begins), *end.shape) for end in final)
            outputs[begin : begin + self.size] = part
            state = tuple(kept[index].copy_(end) for kept, end in zip(ends, final, strict=True))
            now = _generators(x.device)
            same = all(torch.equal(old, new) for old, new in zip(generators[-1], now, strict=True))
            generators.append(generators[-1] if same else now)
        return _Found(outputs, ends, tuple(generators[:-1]))


@dataclass(frozen=True, eq=False)
class _Found:
    """What the way there leaves.

    Attributes:
        outputs: (T, B, output_size).
        ends: the state after each segment, each (segments, B, ...).
        generators: of random numbers, before each segment.
    """

    outputs: Tensor
    ends: State
    generators: tuple[tuple[Tensor, ...], ...]

    @property
    def final(self) -> State:
        """The state after the last step, in memory of its own."""
        return tuple(kept[-1].clone() for kept in self.ends)


class _Checkpointed(torch.autograd.Function):
    """The segments as one operation of x, the parts of the state, and the parameters."""

    @staticmethod
    def forward(ctx: Any, segments: _Segments, num_parts: int, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        state, parameters = tensors[:num_parts], tensors[num_parts:]
        found = segments.run_all(x, state, parameters)
        final = found.final
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(part for part in final if not _differentiable(part)))
        # The parameters too: it is then an error to change them in place before the way back.
        ctx.save_for_backward(x, segments.reset, segments.lengths, *state, *parameters, *found.ends)
        ctx.segments, ctx.num_parts, ctx.generators = segments, num_parts, found.generators
        ctx.surroundings = _Surroundings.of(segments.inner, x.device)
        return found.outputs, *final

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor | None, *d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        x, _, _, *rest = ctx.saved_tensors
        num_inputs = ctx.num_parts + len(ctx.segments.names)
        state, parameters, ends = rest[: ctx.num_parts], rest[ctx.num_parts : num_inputs], rest[num_inputs:]
        leaves = tuple(part.detach().requires_grad_(part.requires_grad) for part in parameters)
        d_x = torch.zeros_like(x, requires_grad=False) if ctx.needs_input_grad[2] else None
        way_back = _WayBack(ctx.segments, x, d_outputs, d_x, leaves)
        d_state = d_final
        with torch.no_grad(), ctx.surroundings.restored():
            for index in reversed(range(len(ctx.generators))):
                _set_generators(x.device, ctx.generators[index])
                start = [kept[index - 1] for kept in ends] if index else state
                d_state = way_back.segment(index, start, d_state)
        found = (d_x, *d_state, *(leaf.grad for leaf in leaves))
        wanted = tuple(
            gradient if needed else None for gradient, needed in zip(found, ctx.needs_input_grad[2:], strict=True)
        )
        if torch.is_grad_enabled():
            wanted = _undifferentiable(wanted, (x, *state, *parameters, d_outputs, *d_final))
        return None, None, *wanted


@dataclass(frozen=True, eq=False)
class _WayBack:
    """What the segments of one backward pass share; the gradients grow as they go.

    Attributes:
        segments: to run again.
        x: (T, B, I).
        d_outputs: (T, B, output_size), the gradient by the outputs, if there is one.
        d_x: (T, B, I), the gradient by x, if it is wanted.
        leaves: stand in for the parameters, and gather their gradients.
    """

    segments: _Segments
    x: Tensor
    d_outputs: Tensor | None
    d_x: Tensor | None
    leaves: tuple[Tensor, ...]

    def segment(
        self, index: int, start: Sequence[Tensor], d_final: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """Run a segment again, and take the gradient by its final state back to that by the state before it."""
        begin, end = index * self.segments.size, (index + 1) * self.segments.size
        x = self.x[begin:end].detach().requires_grad_(self.d_x is not None)
        state = tuple(part.detach().requires_grad_(_differentiable(part)) for part in start)
        with torch.enable_grad():
            outputs, final = self.segments.run(begin, x, state, self.leaves)

        d_outputs = None if self.d_outputs is None else self.d_outputs[begin:end].to(outputs.dtype)
        reached = [
            (tensor, gradient)
            for tensor, gradient in zip((outputs, *final), (d_outputs, *d_final), strict=True)
            if gradient is not None and tensor.requires_grad
        ]
        wanted = [tensor for tensor in (x, *state, *self.leaves) if tensor.requires_grad]
        if reached and wanted:
            tensors, gradients = zip(*reached, strict=True)
            torch.autograd.backward(tensors, gradients, inputs=wanted)
        if self.d_x is not None and x.grad is not None:
            self.d_x[begin:end] = x.grad
        return tuple(part.grad for part in state)


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """What else the numbers of a cell depend on.

    Attributes:
        device: where the cell runs.
        autocast: the arguments of `torch.autocast`, for each type of device.
        training: the mode of each module.
    """

    device: torch.device
    autocast: tuple[dict[str, Any], ...]
    training: dict[nn.Module, bool]

    @classmethod
    def of(cls, module: nn.Module, device: torch.device) -> _Surroundings:
        """As they are now."""
        autocast = tuple(
            {
                "device_type": kind,
                "dtype": torch.get_autocast_dtype(kind),
                "enabled": torch.is_autocast_enabled(kind),
                "cache_enabled": torch.is_autocast_cache_enabled(),
            }
            for kind in sorted({"cpu", device.type})
            if torch.amp.is_autocast_available(kind)
        )
        return cls(device, autocast, {part: part.training for part in module.modules()})

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put them back for a while; what is drawn meanwhile leaves no trace in torch's random numbers."""
        modes, generators = {part: part.training for part in self.training}, _generators(self.device)
        with ExitStack() as stack:
            for arguments in self.autocast:
                stack.enter_context(torch.autocast(**arguments))
            try:
                _set_modes(self.training)
                yield
            finally:
                _set_modes(modes)
                _set_generators(self.device, generators)


class _Undifferentiable(torch.autograd.Function):
    """Gradients that depend on what they were computed from, and refuse to say how.

    Without it (or with `once_differentiable`) a second derivative by an input would leave out this path in silence.
    """

    @staticmethod
    def forward(_: Any, num_gradients: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors[:num_gradients]

    @staticmethod
    def backward(_: Any, *__: Tensor) -> tuple[Tensor, ...]:
        raise InputError(_TWICE)


def _undifferentiable(
    gradients: Sequence[Tensor | None], sources: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """`gradients` as they are, but an error for whoever differentiates them by one of `sources`."""
    there = [gradient for gradient in gradients if gradient is not None]
    apply: Callable[..., tuple[Tensor, ...]] = _Undifferentiable.apply
    marked = iter(apply(len(there), *there, *(source for source in sources if source is not None)))
    return tuple(None if gradient is None else next(marked) for gradient in gradients)


def _least_memory_segment(num_steps: int) -> int:
    return max(1, math.ceil(math.sqrt(num_steps / STATES_PER_STEP)))


def _differentiable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _set_modes(training: dict[nn.Module, bool]) -> None:
    for module, mode in training.items():
        module.training = mode


def _generators(device: torch.device) -> tuple[Tensor, ...]:
    """The states of torch's random generators that a cell on `device` may draw from."""
    cpu = torch.get_rng_state()
    return (cpu, torch.cuda.get_rng_state(device)) if device.type == "cuda" else (cpu,)


def _set_generators(device: torch.device, states: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
