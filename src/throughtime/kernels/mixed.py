"""The compiled LSTM in mixed precision as torch operators: forward, and the way back through time.

throughtime::mixed_lstm           projected input, bias, weights, state -> outputs, and what the way back wants
throughtime::mixed_lstm_backward  the gradients by the gates' sums, by the first state and by the bias
"""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.kernels.binding import Mixed, library

__all__ = ["mixed_lstm", "mixed_lstm_backward"]

_FORWARD, _BACKWARD = "throughtime::mixed_lstm", "throughtime::mixed_lstm_backward"


def mixed_lstm(
    projected: Tensor, bias: Tensor, weight: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All steps of an LSTM; the caller has seen that `library().mixed`. It has no gradient: see `mixed_lstm_backward`.

    Args:
        projected: (T, B, 4 H) bfloat16, W_ih x; H a multiple of 16.
        bias: (4 H) float32.
        weight: W_hh (4 H, H) bfloat16.
        h: (B, H) float32, before the first step.
        c: (B, H) float32, before the first step.

    Returns:
        The outputs (T, B, H); h before each step (T, B, H), bfloat16; the gates i, f, g, o (T, B, 4 H); c before each
        step and after the last (T + 1, B, H).
    """
    outputs, before, gates, cells = torch.ops.throughtime.mixed_lstm(projected, bias, weight, h, c)
    return outputs, before, gates, cells


def mixed_lstm_backward(
    weight: Tensor, gates: Tensor, cells: Tensor, d_outputs: Tensor, d_c: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The way back through all steps.

    Args:
        weight: as `mixed_lstm` took it.
        gates: as `mixed_lstm` gave them.
        cells: as `mixed_lstm` gave them.
        d_outputs: (T, B, H) float32.
        d_c: (B, H) float32, by the last c.

    Returns:
        The gradients by what the gates are functions of (T, B, 4 H), bfloat16; by h and by c before the first step; by
        the bias (4 H).
    """
    d_gates, d_h, d_first, d_bias = torch.ops.throughtime.mixed_lstm_backward(weight, gates, cells, d_outputs, d_c)
    return d_gates, d_h, d_first, d_bias


def _forward(projected: Tensor, bias: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    outputs, before, gates, cells = results = _fake_forward(projected, bias, weight, h, c)
    inputs = {"projected": projected, "bias": bias, "weight": weight, "h": h, "c": c}
    _call(inputs, {"outputs": outputs, "before": before, "gates": gates, "cells": cells})
    return results


def _backward(weight: Tensor, gates: Tensor, cells: Tensor, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor, ...]:
    d_gates, d_h, d_first, d_bias = results = _fake_backward(weight, gates, cells, d_outputs, d_c)
    d_first.copy_(d_c)
    inputs = {"weight": weight, "gates": gates, "cells": cells, "d_outputs": d_outputs}
    _call(inputs, {"d_gates": d_gates, "d_h": d_h, "d_c": d_first, "d_bias": d_bias}, backward=True)
    return results


def _fake_forward(projected: Tensor, bias: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    T, B, H = projected.size(0), h.size(0), h.size(1)
    before = projected.new_empty(T, B, H)
    return h.new_empty(T, B, H), before, h.new_empty(T, B, 4 * H), h.new_empty(T + 1, B, H)


def _fake_backward(weight: Tensor, gates: Tensor, cells: Tensor, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor, ...]:
    d_bias = d_c.new_empty(weight.size(0))
    return weight.new_empty(gates.shape), d_c.new_empty(d_c.shape), d_c.new_empty(d_c.shape), d_bias


def _call(inputs: dict[str, Tensor], outputs: dict[str, Tensor], *, backward: bool = False) -> None:
    found = library()
    assert found is not None, "the caller has seen that there is one"
    arrays = {name: tensor.contiguous() for name, tensor in inputs.items()} | outputs
    for tensor in outputs.values():
        found.advise(tensor)
    steps, batch, width = arrays["gates"].shape
    pointers = {name: tensor.data_ptr() for name, tensor in arrays.items()}
    problem = Mixed(steps=steps, batch=batch, units=width // 4, threads=torch.get_num_threads(), **pointers)
    found.run_mixed(problem, backward=backward)


torch.library.define(
    _FORWARD, "(Tensor projected, Tensor bias, Tensor weight, Tensor h, Tensor c) -> (Tensor, Tensor, Tensor, Tensor)"
)
torch.library.define(
    _BACKWARD,
    "(Tensor weight, Tensor gates, Tensor cells, Tensor d_outputs, Tensor d_c) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl(_FORWARD, "CPU")(_forward)
torch.library.impl(_BACKWARD, "CPU")(_backward)
torch.library.register_fake(_FORWARD)(_fake_forward)
torch.library.register_fake(_BACKWARD)(_fake_backward)
