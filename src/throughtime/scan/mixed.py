"""An LSTM in mixed precision: matrix products in bfloat16, states, gates and sums in float32.

On processors that multiply bfloat16 numbers natively this is two to three times as fast as torch's float32 kernel.
Where the compiled library has this loop, a thread takes rows through all the steps, and W_hh is laid out once.
Elsewhere, and where the processor multiplies whole tiles of matrices (AMX, which torch's products use), it is torch
step by step. It is for training alone: its numbers are those of the equations to about three digits, as in any
mixed-precision training (Micikevicius et al. 2018, arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from throughtime.kernels import library, mixed_lstm, mixed_lstm_backward
from throughtime.scan.contract import ScanCell, State

__all__ = ["mixed", "mixed_obstacle"]

MIN_HIDDEN = 384
"""Below this the products are too small to pay for the steps that they are cut into."""

LANES = 16
"""The compiled loop takes so many units at once; where they do not divide H, the plain one runs."""


def mixed_obstacle(cell: ScanCell, x: Tensor, reset: Tensor | None, lengths: Tensor | None) -> str | None:
    """Why `mixed` cannot run `cell` on an input such as `x`, or None if it can."""
    if cell.torch_kernel != "lstm" or len(cell.torch_weights()) != 4:
        return f"mixed precision is for the LSTM with biases and without a projection, not for {type(cell).__name__}"
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return f"mixed precision starts from float32 on a CPU, not from {x.dtype} on {x.device}"
    if reset is not None or lengths is not None:
        return "mixed precision runs whole sequences, without resets and lengths"
    if cell.output_size < MIN_HIDDEN:
        return f"mixed precision gains nothing below {MIN_HIDDEN} units"
    if not torch.is_grad_enabled():
        return "mixed precision is for training, and gradients are off"
    return None if x.numel() else "there is no step to run"


def mixed(cell: ScanCell, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Run an LSTM over whole sequences; the caller has seen that `mixed_obstacle` is None.

    Args:
        cell: the LSTM.
        x: (T, B, I) float32.
        state: (h, c), each (B, H) float32.

    Returns:
        The outputs (T, B, H) and the final (h, c).
    """
    weight_ih, weight_hh, bias_ih, bias_hh = cell.torch_weights()
    run: Callable[..., tuple[Tensor, Tensor]] = _MixedLSTM.apply
    outputs, c = run(x, *state, weight_ih, weight_hh, bias_ih + bias_hh)
    return outputs, (outputs[-1], c)


class _MixedLSTM(torch.autograd.Function):
    """Backpropagation through time written out; the notation is that of `throughtime.cell.LSTM`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        x16, ih16, hh16 = x.bfloat16().flatten(0, 1), weight_ih.bfloat16(), weight_hh.bfloat16()
        projected = (x16 @ ih16.t()).view(x.size(0), x.size(1), -1)
        ctx.compiled = _loop_is_compiled(h.size(1))
        steps = mixed_lstm if ctx.compiled else _steps
        outputs, before16, gates, cells = steps(projected, bias, hh16, h, c)
        ctx.save_for_backward(x16, ih16, hh16, gates, before16, cells)
        return outputs, cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_c: Tensor) -> tuple[Tensor, ...]:
        x16, ih16, hh16, gates, before16, cells = ctx.saved_tensors
        T, B, H = before16.shape
        steps_back = mixed_lstm_backward if ctx.compiled else _steps_back
        d_gates16, d_h, d_c, d_bias = steps_back(hh16, gates, cells, d_outputs, d_c)
        flat16 = d_gates16.view(T * B, 4 * H)
        d_x = (flat16 @ ih16).float().view(T, B, -1)
        d_ih, d_hh = (flat16.t() @ x16).float(), (flat16.t() @ before16.view(T * B, H)).float()
        return d_x, d_h, d_c, d_ih, d_hh, d_bias


def _loop_is_compiled(units: int) -> bool:
    found = library()
    return found is not None and found.mixed_is_fast and units % LANES == 0


def _steps(
    projected: Tensor, bias: Tensor, hh16: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `mixed_lstm` computes, in plain torch."""
    (T, B, _), H = projected.shape, h.size(1)
    gates = projected.float().add_(bias)
    before16 = torch.empty(T, B, H, dtype=torch.bfloat16)
    outputs, cells = torch.empty(T, B, H), torch.empty(T + 1, B, H)
    cells[0] = c
    for t in range(T):
        before16[t] = h
        gate = gates[t].add_(before16[t] @ hh16.t())
        gate[:, : 2 * H].sigmoid_()
        i, f, g, o = gate.chunk(4, dim=1)
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
        h = torch.tanh(cells[t + 1], out=outputs[t]).mul_(o)
    return outputs, before16, gates, cells


def _steps_back(
    hh16: Tensor, gates: Tensor, cells: Tensor, d_outputs: Tensor, d_c: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `mixed_lstm_backward` computes, in plain torch."""
    T, B, H = d_outputs.shape
    i, f, g, o = gates.chunk(4, dim=2)
    squashed = torch.tanh(cells[1:])
    c_from_h = o * (1 - squashed * squashed)
    by_c = torch.stack([g * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - g * g)], dim=2)
    by_h = squashed * o * (1 - o)
    d_gates16 = torch.empty(T, B, 4, H, dtype=torch.bfloat16)
    d_h, d_c = torch.zeros(B, H), d_c.clone()
    for t in range(T - 1, -1, -1):
        d_h = d_h.add_(d_outputs[t])
        d_c.addcmul_(d_h, c_from_h[t])
        d_gates16[t, :, :3] = by_c[t].mul_(d_c.unsqueeze(1))
        d_gates16[t, :, 3] = by_h[t].mul_(d_h)
        d_c.mul_(f[t])
        d_h = (d_gates16[t].view(B, 4 * H) @ hh16).float()
    d_gates16 = d_gates16.view(T, B, 4 * H)
    return d_gates16, d_h, d_c, d_gates16.sum((0, 1), dtype=torch.float32)
