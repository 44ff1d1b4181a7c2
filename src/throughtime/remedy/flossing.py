"""Gradient flossing before training, in plain PyTorch; `TreatmentPlan.code` prints it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.remedy.hooking import outer_recurrences

__all__ = ["exponents", "floss"]


def one_step(weights: list[Tensor], kind: str, x: Tensor, state: Tensor) -> Tensor:
    """The next state of one sequence in a layer of `torch.nn.RNN`, `GRU` or `LSTM`; an LSTM's is h beside c."""
    if kind == "LSTM":
        h, c = torch.lstm_cell(x[None], [part[None] for part in state.chunk(2)], *weights)
        return torch.cat([h[0], c[0]])
    cell = {"GRU": torch.gru_cell, "RNN_TANH": torch.rnn_tanh_cell, "RNN_RELU": torch.rnn_relu_cell}[kind]
    return cell(x[None], state[None], *weights)[0]


def exponents(weights: list[Tensor], kind: str, x: Tensor, num_exponents: int) -> tuple[Tensor, Tensor]:
    """The first Lyapunov exponents of a layer on x (T, B, I), in nats a step, and its outputs (T, B, H).

    An orthonormal basis Q is carried through the Jacobians of the steps and made orthonormal again, J Q = Q' R; an
    exponent is the mean of log |R_ii|. Differentiable by the weights.
    """
    hidden = weights[1].size(1)
    size = 2 * hidden if kind == "LSTM" else hidden
    state = x.new_zeros(x.size(1), size)
    basis = torch.eye(size, num_exponents, dtype=x.dtype, device=x.device).expand(x.size(1), -1, -1)
    logs, outputs = x.new_zeros(num_exponents), []

    def moved(x_t: Tensor, s: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        def along(direction: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(lambda z: one_step(weights, kind, x_t, z), (s,), (direction,))

        after, tangents = torch.func.vmap(along, in_dims=1, out_dims=(0, 1))(q)
        return after[0], tangents

    for x_t in x:
        state, image = torch.func.vmap(moved)(x_t, state, basis)
        basis, triangle = torch.linalg.qr(image)
        sizes = triangle.diagonal(dim1=-2, dim2=-1).abs().clamp_min(1e-30)
        logs = logs + sizes.log().mean(0)
        outputs.append(state[:, :hidden])
    return logs / len(x), torch.stack(outputs)


def floss(
    model: nn.Module, inputs: Any, num_steps: int = 100, num_exponents: int = 8, rate: float = 1e-3, longest: int = 50
) -> list[float]:
    """Draw the first Lyapunov exponents of every `torch.nn.RNN`, `GRU` and `LSTM` towards zero, by Adam on their squares.

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
    seen: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = pad_packed_sequence(args[0])[0] if isinstance(args[0], PackedSequence) else args[0]
        turned = getattr(module, "batch_first", False) and not isinstance(args[0], PackedSequence)
        seen[module] = (x.transpose(0, 1) if turned else x)[:longest].detach()

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        model(*inputs) if isinstance(inputs, tuple) else model(inputs)
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
        course.append(float(loss))
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
    return course
