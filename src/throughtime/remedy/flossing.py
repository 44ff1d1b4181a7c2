"""Gradient flossing before training, in plain PyTorch; `TreatmentPlan.code` prints it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.measurement.arguments import forward
from throughtime.remedy.hooking import outer_recurrences

__all__ = ["exponents", "floss"]


def one_step(weights: list[Tensor], kind: str, x: Tensor, state: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """The next state of a layer of `torch.nn.RNN`, `GRU` or `LSTM`, and where small changes of the state go.

    Args:
        weights: W_ih, W_hh and, where there are any, both biases.
        kind: the layer's mode.
        x: (B, I).
        state: (B, S); an LSTM's is h beside c.
        basis: (B, K, S), K directions of change.
    """
    hidden = weights[1].size(1)
    h, dh = state[:, :hidden], basis[..., :hidden]
    read, kept = (
        nn.functional.linear(value, weight, bias)
        for value, weight, bias in zip((x, h), weights, weights[2:] or (None, None), strict=False)
    )
    moved = dh @ weights[1].t()
    if kind == "RNN_RELU":
        after = torch.relu(read + kept)
        return after, (after > 0).unsqueeze(1) * moved
    if kind == "RNN_TANH":
        after = torch.tanh(read + kept)
        return after, (1 - after**2).unsqueeze(1) * moved
    if kind == "GRU":
        r, z = torch.sigmoid(read + kept)[:, : 2 * hidden].chunk(2, 1)
        d_r, d_z, d_n = moved.chunk(3, -1)
        n = torch.tanh(read[:, 2 * hidden :] + r * kept[:, 2 * hidden :])
        d_r, d_z = (r * (1 - r)).unsqueeze(1) * d_r, (z * (1 - z)).unsqueeze(1) * d_z
        d_n = (1 - n**2).unsqueeze(1) * (r.unsqueeze(1) * d_n + kept[:, None, 2 * hidden :] * d_r)
        return (1 - z) * n + z * h, (1 - z).unsqueeze(1) * d_n + z.unsqueeze(1) * dh + (h - n).unsqueeze(1) * d_z
    c, dc = state[:, hidden:], basis[..., hidden:]
    sums = (read + kept).chunk(4, 1)
    i, f, o = (torch.sigmoid(sums[part]) for part in (0, 1, 3))
    g = torch.tanh(sums[2])
    slopes = (i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o))
    d_i, d_f, d_g, d_o = (s.unsqueeze(1) * d for s, d in zip(slopes, moved.chunk(4, -1), strict=True))
    c_after = f * c + i * g
    dc_after = f.unsqueeze(1) * dc + c.unsqueeze(1) * d_f + i.unsqueeze(1) * d_g + g.unsqueeze(1) * d_i
    t = torch.tanh(c_after)
    dh_after = t.unsqueeze(1) * d_o + (o * (1 - t**2)).unsqueeze(1) * dc_after
    return torch.cat([o * t, c_after], 1), torch.cat([dh_after, dc_after], -1)


def exponents(weights: list[Tensor], kind: str, x: Tensor, num_exponents: int) -> tuple[Tensor, Tensor]:
    """The first Lyapunov exponents of a layer on x (T, B, I), in nats a step, and its outputs (T, B, H).

    An orthonormal basis Q is carried through the Jacobians of the steps and made orthonormal again, J Q = Q' R; an
    exponent is the mean of log |R_ii|. Differentiable by the weights.
    """
    hidden = weights[1].size(1)
    size = 2 * hidden if kind == "LSTM" else hidden
    state = x.new_zeros(x.size(1), size)
    basis = torch.eye(num_exponents, size, dtype=x.dtype, device=x.device).expand(x.size(1), -1, -1)
    logs, outputs = x.new_zeros(num_exponents), []
    for x_t in x:
        state, image = one_step(weights, kind, x_t, state, basis)
        orthonormal, triangle = torch.linalg.qr(image.transpose(1, 2))
        basis = orthonormal.transpose(1, 2)
        logs = logs + triangle.diagonal(dim1=1, dim2=2).abs().clamp_min(1e-30).log().mean(0)
        outputs.append(state[:, :hidden])
    return logs / len(x), torch.stack(outputs)


def floss(
    model: nn.Module, inputs: Any, num_steps: int = 100, num_exponents: int = 8, rate: float = 1e-3, longest: int = 50
) -> list[float]:
    """Draw the first Lyapunov exponents of each `torch.nn.RNN`, `GRU` and `LSTM` to zero, by Adam on their squares.

    *Reference*: Engelken 2023, *Gradient flossing: improving gradient descent through dynamic control of Jacobians*,
    arXiv:2312.17306, equations 6 and 7. Departure: bidirectional layers are flossed forwards alone.

    Args:
        model: its recurrent weights are changed.
        inputs: of one batch; several arguments as a tuple.
        num_steps: updates.
        num_exponents: of each layer, at most its units.
        rate: of Adam.
        longest: steps in time, at most, that are looked at.

    Returns:
        The mean of the squared exponents before each update.
    """
    layers = [m for m in outer_recurrences(model) if isinstance(m, nn.RNNBase) and m.proj_size == 0]
    seen: dict[Any, Tensor] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = pad_packed_sequence(args[0])[0] if isinstance(args[0], PackedSequence) else args[0]
        turned = getattr(module, "batch_first", False) and not isinstance(args[0], PackedSequence)
        seen[module] = (x.transpose(0, 1) if turned else x)[:longest].detach()

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        forward(model, inputs)
    for handle in handles:
        handle.remove()
    trained = [p for layer in seen for p in layer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=rate)
    course = []
    for _ in range(num_steps):
        squares = []
        for layer, first in seen.items():
            x = first
            for number in range(layer.num_layers):
                names = [f"{part}_l{number}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
                weights = [getattr(layer, name) for name in names if hasattr(layer, name)]
                found, x = exponents(weights, layer.mode, x, min(num_exponents, layer.hidden_size))
                squares.append(found.square().mean())
                if layer.bidirectional:
                    break
        loss = torch.stack(squares).mean()
        course.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
    return course
