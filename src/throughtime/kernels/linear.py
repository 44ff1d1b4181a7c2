r"""The linear recurrence h_t = a_t h_{t-1} + b_t, element by element, as a torch operator; bound by memory alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from throughtime.kernels.binding import Library, Linear, library
from throughtime.kernels.pairs import conjugate, product

__all__ = ["linear_scan"]

_FORWARD, _BACKWARD = "throughtime::linear_scan", "throughtime::linear_scan_backward"


def linear_scan(a: Tensor, b: Tensor, start: Tensor, *, complex_pairs: bool = False) -> Tensor:
    """All states of h_t = a_t h_{t-1} + b_t, by the compiled library (`library()` is not None); float32 or float64.

    It has gradients of any order.

    Args:
        a: (T, B, S), or (S,) where it is the same at all steps and rows.
        b: (T, B, S).
        start: h_0, (B, S).
        complex_pairs: whether a row holds S / 2 real parts and then S / 2 imaginary parts.

    Returns:
        (T, B, S), the states h_1 to h_T.
    """
    states: Tensor = torch.ops.throughtime.linear_scan(a, b, start, complex_pairs)
    return states


def _forward(a: Tensor, b: Tensor, start: Tensor, complex_pairs: bool) -> Tensor:
    states = torch.empty_like(b, memory_format=torch.contiguous_format)
    _call({"a": a, "b": b, "start": start}, {"states": states}, complex_pairs)
    return states


def _backward_pass(
    a: Tensor, start: Tensor, states: Tensor, d_states: Tensor, complex_pairs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    d_a, d_b, d_start = (torch.empty_like(like, memory_format=torch.contiguous_format) for like in (a, states, start))
    inputs = {"a": a, "start": start, "states": states, "d_states": d_states}
    _call(inputs, {"d_a": d_a, "d_b": d_b, "d_start": d_start}, complex_pairs, backward=True)
    return d_a, d_b, d_start


def _fake_forward(a: Tensor, b: Tensor, start: Tensor, complex_pairs: bool) -> Tensor:
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _fake_backward(
    a: Tensor, start: Tensor, states: Tensor, d_states: Tensor, complex_pairs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(states), torch.empty_like(start)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, start, ctx.complex_pairs = inputs
    ctx.save_for_backward(a, start, output)


def _backward(ctx: Any, d_states: Tensor) -> tuple[Any, ...]:
    a, start, states = ctx.saved_tensors
    way_back = _differentiable_backward if torch.is_grad_enabled() else torch.ops.throughtime.linear_scan_backward
    return *way_back(a, start, states, d_states, ctx.complex_pairs), None


def _differentiable_backward(
    a: Tensor, start: Tensor, states: Tensor, d_states: Tensor, complex_pairs: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The way back through the scan itself, run over reversed time: s_t = g_t + conj(a_{t+1}) s_{t+1}."""
    factor = conjugate(a, complex_pairs)
    shifted = factor if a.dim() == 1 else torch.cat([factor[1:], factor[:1]]).flip(0)
    d_b = linear_scan(shifted, d_states.flip(0), torch.zeros_like(start), complex_pairs=complex_pairs).flip(0)
    before = torch.cat([start.unsqueeze(0), states[:-1]])
    d_a = product(d_b, conjugate(before, complex_pairs), complex_pairs)
    first = factor if a.dim() == 1 else factor[0]
    return d_a.sum((0, 1)) if a.dim() == 1 else d_a, d_b, product(d_b[0], first, complex_pairs)


def _call(
    inputs: dict[str, Tensor], outputs: dict[str, Tensor], complex_pairs: bool, *, backward: bool = False
) -> None:
    found = library()
    assert isinstance(found, Library), "the caller has seen that there is one"
    dense = {name: tensor.contiguous() for name, tensor in inputs.items()} | outputs
    like = dense["states"]
    for tensor in outputs.values():
        found.advise(tensor)
    problem = Linear(
        steps=like.size(0),
        batch=like.size(1),
        width=like.size(2),
        threads=torch.get_num_threads(),
        double_precision=like.dtype == torch.float64,
        complex_numbers=complex_pairs,
        constant_a=dense["a"].dim() == 1,
        **{name: tensor.data_ptr() for name, tensor in dense.items()},
    )
    found.run_linear(problem, backward=backward)


torch.library.define(_FORWARD, "(Tensor a, Tensor b, Tensor start, bool complex_pairs) -> Tensor")
torch.library.define(
    _BACKWARD,
    "(Tensor a, Tensor start, Tensor states, Tensor d_states, bool complex_pairs) -> (Tensor, Tensor, Tensor)",
)
torch.library.impl(_FORWARD, "CPU")(_forward)
torch.library.impl(_BACKWARD, "CPU")(_backward_pass)
torch.library.register_fake(_FORWARD)(_fake_forward)
torch.library.register_fake(_BACKWARD)(_fake_backward)
torch.library.register_autograd(_FORWARD, _backward, setup_context=_setup_context)
