"""The compiled loops as torch operators, so that autograd, `torch.compile`, `torch.export` and DDP accept them.

throughtime::scan           projected input, state, weights -> outputs, final state, and what the way back wants
throughtime::scan_backward  the gradients by projected input, first state and weights
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.kernels.binding import MAX_CONSTANTS, Library, Problem, Widths, library
from throughtime.kernels.weight_gradients import Pass, weight_gradients

__all__ = ["scan"]

_FORWARD, _BACKWARD = "throughtime::scan", "throughtime::scan_backward"
_TWICE = (
    "a compiled scan has no gradient of its gradient: use scan='loop' (Recurrent(..., scan='loop')) where second "
    "derivatives are needed"
)


def scan(
    loop: str,
    constants: Sequence[float],
    projected: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    fresh: Sequence[Tensor] = (),
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a compiled loop over T steps.

    Args:
        loop: a name in `library().loops`.
        constants: as the cell's `KernelSpec` has them.
        projected: (T, B, G), float32 or float64 on the CPU; T, B >= 1.
        state: before the first step, each (B, H).
        weights: as the cell's `kernel_weights` gives them.
        fresh: what a reset puts in the state's place, each (B, H); it gets no gradient.
        reset: (T, B) bool.
        lengths: (B,) int64 from 0 to T.

    Returns:
        The outputs (T, B, H), and the final state, each (B, H).
    """
    inputs = (projected, *state, *weights)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    found = torch.ops.throughtime.scan(
        loop, list(constants), projected, list(state), list(weights), list(fresh), reset, lengths, keep
    )
    return found[0], tuple(found[1 : 1 + len(state)])


def _run_forward(
    loop: str,
    constants: Sequence[float],
    projected: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    fresh: Sequence[Tensor],
    reset: Tensor | None,
    lengths: Tensor | None,
    keep: bool,
) -> list[Tensor]:
    """Outputs; final state; and if `keep`, the state before each step and what the loop saves of it.

    Where nothing is reset and the output is the first part of the state, the outputs hold that part already.
    """
    call = _Call(loop, constants, projected, projected, state[0].size(1), weights, reset, lengths)
    results = _results(call.widths, projected, state, reset, keep)
    outputs, final, before, saved = _parts(results, len(state))
    call.problem.keep = keep
    call.point("start", [part.contiguous() for part in state])
    call.point("fresh", [part.contiguous() for part in fresh])
    call.fill("final_state", final)
    call.fill("outputs", outputs)
    if keep:
        call.fill("before", [*[None] * (len(state) - len(before)), *before])
        call.fill("saved", saved)
    call.run(backward=False)
    return results


def _fake_forward(
    loop: str,
    constants: Sequence[float],
    projected: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    fresh: Sequence[Tensor],
    reset: Tensor | None,
    lengths: Tensor | None,
    keep: bool,
) -> list[Tensor]:
    widths = _widths(loop, constants, projected, state[0].size(1))
    return _results(widths, projected, state, reset, keep)


def _run_backward(
    loop: str,
    constants: Sequence[float],
    projected: Tensor | None,
    weights: Sequence[Tensor],
    reset: Tensor | None,
    lengths: Tensor | None,
    kept: Sequence[Tensor],
    d_outputs: Tensor | None,
    d_final: Sequence[Tensor | None],
) -> list[Tensor]:
    """The gradients by the projected input, by each part of the first state, by each weight.

    The projected input itself is None where the way back does not read it.
    """
    *before, saved, outputs = kept
    starts = [part[0] if part.dim() == 3 else part for part in before]
    call = _Call(loop, constants, projected, outputs, outputs.size(2), weights, reset, lengths)
    d_projected = outputs.new_empty(*outputs.shape[:2], call.widths.projected)
    d_start = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in starts]
    width = call.widths.recurrent
    d_recurrent = outputs.new_empty(*outputs.shape[:2], width) if width else d_projected
    call.problem.keep = True
    call.point("start", [part.contiguous() for part in starts])
    call.point("before", [part if part.dim() == 3 else None for part in before])
    call.point("saved", saved)
    call.point("outputs", outputs)
    call.point("d_outputs", torch.zeros_like(outputs) if d_outputs is None else d_outputs.contiguous())
    call.point("d_final_state", [None if part is None else part.contiguous() for part in d_final])
    call.fill("d_start", d_start)
    call.fill("d_projected", d_projected)
    call.fill("d_recurrent", d_recurrent)
    d_vectors = outputs.new_empty(outputs.size(1), call.widths.vectors)
    call.point("d_vectors", d_vectors)
    call.run(backward=True)
    found = Pass(projected, tuple(before), saved, outputs, d_projected, d_recurrent, d_vectors.sum(0), tuple(weights))
    return [d_projected, *d_start, *weight_gradients(loop, found)]


def _fake_backward(
    loop: str,
    constants: Sequence[float],
    projected: Tensor | None,
    weights: Sequence[Tensor],
    reset: Tensor | None,
    lengths: Tensor | None,
    kept: Sequence[Tensor],
    d_outputs: Tensor | None,
    d_final: Sequence[Tensor | None],
) -> list[Tensor]:
    starts = [torch.empty_like(part[0] if part.dim() == 3 else part) for part in kept[:-2]]
    outputs = kept[-1]
    width = _widths(loop, constants, projected, outputs.size(2)).projected
    return [outputs.new_empty(*outputs.shape[:2], width), *starts, *(torch.empty_like(weight) for weight in weights)]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    loop, constants, projected, state, weights, fresh, reset, lengths, keep = inputs
    ctx.set_materialize_grads(False)
    ctx.loop, ctx.constants = loop, constants
    ctx.num_states, ctx.num_weights, ctx.num_fresh = len(state), len(weights), len(fresh)
    outputs, _, before, saved = _parts(output, len(state))
    kept = [*state[: len(state) - len(before)], *before, saved, outputs] if keep else []
    reads = keep and _widths(loop, constants, projected, state[0].size(1)).backward_reads_projected
    ctx.save_for_backward(projected if reads else None, reset, lengths, *weights, *kept)


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    projected, reset, lengths, *rest = ctx.saved_tensors
    weights, kept = rest[: ctx.num_weights], rest[ctx.num_weights :]
    d_outputs, d_final = gradients[0], gradients[1 : 1 + ctx.num_states]
    d_projected, *others = torch.ops.throughtime.scan_backward(
        ctx.loop, ctx.constants, projected, weights, reset, lengths, kept, d_outputs, d_final
    )
    d_state, d_weights = others[: ctx.num_states], others[ctx.num_states :]
    # torch takes a list of floats for one value, and an empty list for one of tensors.
    by_constants: list[None] | None = None if ctx.constants else []
    return None, by_constants, d_projected, d_state, d_weights, [None] * ctx.num_fresh, None, None, None


def _setup_nothing(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """Nothing to keep: there is no way back from here."""


def _refuse(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    raise InputError(_TWICE)


# Defined the plain way: `torch.library.custom_op` imports torch's compiler at the first call, which takes a second.
torch.library.define(
    _FORWARD,
    "(str loop, float[] constants, Tensor projected, Tensor[] state, Tensor[] weights, Tensor[] fresh, "
    "Tensor? reset, Tensor? lengths, bool keep) -> Tensor[]",
)
torch.library.define(
    _BACKWARD,
    "(str loop, float[] constants, Tensor? projected, Tensor[] weights, Tensor? reset, Tensor? lengths, Tensor[] kept, "
    "Tensor? d_outputs, Tensor?[] d_final) -> Tensor[]",
)
for _name, _real, _fake in (
    (_FORWARD, _run_forward, _fake_forward),
    (_BACKWARD, _run_backward, _fake_backward),
):
    torch.library.impl(_name, "CPU")(_real)
    torch.library.register_fake(_name)(_fake)
torch.library.register_autograd(_FORWARD, _backward, setup_context=_setup_context)
torch.library.register_autograd(_BACKWARD, _refuse, setup_context=_setup_nothing)


class _Call:
    """One call of the library: its `Problem`, and the tensors whose memory it points to; `like` is some (T, B, *)."""

    def __init__(
        self,
        loop: str,
        constants: Sequence[float],
        projected: Tensor | None,
        like: Tensor,
        units: int,
        weights: Sequence[Tensor],
        reset: Tensor | None,
        lengths: Tensor | None,
    ) -> None:
        self.loop, self._library = loop, _the_library()
        self._kept: list[Tensor] = []
        self.problem = _sizes(constants, projected, units)
        self.problem.steps, self.problem.batch = like.shape[:2]
        self.problem.threads = torch.get_num_threads()
        self.problem.double_precision = like.dtype == torch.float64
        self.widths = self._library.widths(loop, self.problem)
        if projected is not None:
            assert self.widths.projected == projected.size(2), "the cell and its loop agree on what is projected"
            self.point("projected", projected.contiguous())
        self.point("weights", [weight.contiguous() for weight in weights])
        if reset is not None:
            self.point("reset", reset.contiguous())
        if lengths is not None:
            self.point("lengths", lengths.contiguous())

    def fill(self, field: str, to: Tensor | Sequence[Tensor | None]) -> None:
        """As `point`, for what the loop will write."""
        for tensor in (to,) if isinstance(to, Tensor) else to:
            if tensor is not None:
                self._library.advise(tensor)
        self.point(field, to)

    def point(self, field: str, to: Tensor | Sequence[Tensor | None]) -> None:
        """Point a field, or the first elements of an array of pointers, to the memory of tensors."""
        if isinstance(to, Tensor):
            self._kept.append(to)
            setattr(self.problem, field, to.data_ptr())
            return
        pointers = getattr(self.problem, field)
        for index, tensor in enumerate(to):
            if tensor is not None:
                self._kept.append(tensor)
                pointers[index] = tensor.data_ptr()

    def run(self, *, backward: bool) -> None:
        self._library.run(self.loop, self.problem, backward=backward)


def _the_library() -> Library:
    found = library()
    assert found is not None, "the caller has seen that there is one"
    return found


def _widths(loop: str, constants: Sequence[float], projected: Tensor | None, units: int) -> Widths:
    return _the_library().widths(loop, _sizes(constants, projected, units))


def _sizes(constants: Sequence[float], projected: Tensor | None, units: int) -> Problem:
    """A problem that knows no more than `Library.widths` wants: numbers, also where a compiler traces T and B."""
    numbers = (ctypes.c_double * MAX_CONSTANTS)(*constants)
    # Only a loop that multiplies the input itself asks for its size, and its way back reads it.
    return Problem(units=int(units), input_size=0 if projected is None else int(projected.size(2)), constants=numbers)


def _results(
    widths: Widths, projected: Tensor, state: Sequence[Tensor], reset: Tensor | None, keep: bool
) -> list[Tensor]:
    """Room for what the forward operator returns."""
    steps, batch, units = projected.size(0), projected.size(1), state[0].size(1)
    results = [projected.new_empty(steps, batch, units), *(projected.new_empty(batch, units) for _ in state)]
    if keep:
        in_outputs = widths.output_is_state and reset is None
        results += [projected.new_empty(steps, batch, units) for _ in state[1 if in_outputs else 0 :]]
        results.append(projected.new_empty(steps, batch, widths.saved))
    return results


def _parts(results: Sequence[Tensor], states: int) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Outputs, final state, those parts of the state before each step that are kept, saved."""
    return results[0], list(results[1 : 1 + states]), list(results[1 + states : -1]), results[-1]
