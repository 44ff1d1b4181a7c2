"""Starts that redraw what is recurrent in a model, in plain PyTorch: `TreatmentPlan.code` prints these functions.

They see `torch.nn.RNN`, `GRU`, `LSTM`, their cells, and the cells of `throughtime.Recurrent` that have the same layout.
A layer whose recurrent matrix is frozen stays as it is. Input matrices become Glorot's and biases zero, so that nothing
of a start that was broken is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "critical_start",
    "forget_gate_start",
    "fresh_start",
    "identity_start",
    "orthogonal_start",
    "recurrent_weights",
    "redraw",
]


def recurrent_weights(model: nn.Module) -> Iterator[tuple[Any, Tensor, Tensor, list[Tensor]]]:
    """For each layer and direction the module that holds it, W_hh, W_ih and the biases."""
    for module in model.modules():
        if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and not getattr(module, "torch_kernel", None):
            continue
        for name, weight in list(module.named_parameters(recurse=False)):
            end = name.removeprefix("weight_hh")
            if end != name and weight.requires_grad:
                biases = [getattr(module, part + end, None) for part in ("bias_ih", "bias_hh")]
                yield module, weight, getattr(module, "weight_ih" + end), [b for b in biases if b is not None]


def redraw(
    model: nn.Module,
    draw: Callable[[Tensor, float], Any],
    draw_input: Callable[[Tensor], Any] = nn.init.xavier_uniform_,
    *,
    gated: bool | None = None,
    draw_gates: Callable[[Sequence[Tensor]], None] | None = None,
) -> int:
    """Draw the matrices of each gate anew, and set the biases to zero.

    Args:
        model: any.
        draw: of the recurrent block of a gate, given the gain that makes up for its curve: sqrt(2) for ReLU, else 1.
        draw_input: of the input block of a gate.
        gated: True for layers of GRU and LSTM that have biases alone, False for those of nn.RNN, None for all.
        draw_gates: of the biases of the gates: i, f, g, o of an LSTM; r, z, n of a GRU.

    Returns:
        How many layers and directions were drawn anew.
    """
    count = 0
    with torch.no_grad():
        for module, weight_hh, weight_ih, biases in recurrent_weights(model):
            num_gates = weight_hh.size(0) // module.hidden_size
            if (gated is True and (num_gates == 1 or not biases)) or (gated is False and num_gates > 1):
                continue
            own = math.sqrt(2) if getattr(module, "nonlinearity", "tanh") == "relu" else 1.0
            for block in weight_hh.chunk(num_gates):
                draw(block, own)
            for block in weight_ih.chunk(num_gates):
                draw_input(block)
            for bias in biases:
                nn.init.zeros_(bias)
            if draw_gates is not None:
                draw_gates(biases[0].chunk(num_gates))
            count += 1
    return count


def orthogonal_start(model: nn.Module, gain: float | None = None) -> int:
    """Orthogonal recurrent matrices, times sqrt(2) for ReLU, which passes half of what comes back.

    *References*: Saxe, McClelland & Ganguli 2014, arXiv:1312.6120; He, Zhang, Ren & Sun 2015, arXiv:1502.01852.

    Returns:
        How many layers and directions were drawn anew.
    """
    return redraw(model, lambda block, own: nn.init.orthogonal_(block, own if gain is None else gain))


def identity_start(model: nn.Module, gain: float | None = None) -> int:
    """Recurrent matrices of nn.RNN that are one, and input weights of deviation 0.001: the IRNN.

    *Reference*: Le, Jaitly & Hinton 2015, arXiv:1504.00941.

    Returns:
        How many layers and directions were drawn anew; those of GRU and LSTM are not.
    """

    def draw(block: Tensor, _: float) -> None:
        nn.init.eye_(block).mul_(1.0 if gain is None else gain)

    return redraw(model, draw, lambda block: nn.init.normal_(block, std=0.001), gated=False)


def critical_start(model: nn.Module, gain: float | None = None) -> int:
    """Gaussian recurrent matrices of nn.RNN with deviation gain / sqrt(H), at the edge of chaos.

    Unless given, the gain is that for no inputs at all: 1 for tanh, sqrt(2) for ReLU.

    *Reference*: Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, arXiv:1606.05340.

    Returns:
        How many layers and directions were drawn anew; those of GRU and LSTM are not.
    """

    def draw(block: Tensor, own: float) -> None:
        nn.init.normal_(block, std=(own if gain is None else gain) / math.sqrt(block.size(0)))

    return redraw(model, draw, gated=False)


def forget_gate_start(model: nn.Module, start: str, max_lag: int = 100) -> int:
    """Orthogonal and Glorot weights, and the bias of the gate that keeps the state (f of an LSTM, z of a GRU).

        "forget-bias"     b_f = 1
        "chrono"          b_f = log u,  u ~ U[1, max_lag - 1],  b_i = -b_f
        "uniform-gate"    sigmoid(b_f) ~ U[1/H, 1 - 1/H],  b_i = -b_f

    *References*: Jozefowicz, Zaremba & Sutskever 2015, ICML; Tallec & Ollivier 2018, arXiv:1804.11188; Gu, Gulcehre,
    Paine, Hoffman & Pascanu 2020, arXiv:1910.09890.

    Returns:
        How many layers and directions were drawn anew; those of nn.RNN, and those without biases, are not.
    """

    def draw_gates(gates: Sequence[Tensor]) -> None:
        keeps = gates[1]
        if start == "forget-bias":
            nn.init.ones_(keeps)
        elif start == "chrono":
            nn.init.uniform_(keeps, 1, max(max_lag, 3) - 1).log_()
        else:
            nn.init.uniform_(keeps, 1 / keeps.numel(), 1 - 1 / keeps.numel()).logit_()
        if start != "forget-bias" and len(gates) == 4:
            gates[0].copy_(-keeps)

    return redraw(model, lambda block, _: nn.init.orthogonal_(block), gated=True, draw_gates=draw_gates)


def fresh_start(model: nn.Module) -> int:
    """Every module draws its parameters anew, as it does when it is made; what is frozen keeps its values.

    Returns:
        How many modules did.
    """
    kept = [(p, p.detach().clone()) for p in model.parameters() if not p.requires_grad]
    count = 0
    for module in model.modules():
        redraw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(redraw):
            redraw()
            count += 1
    with torch.no_grad():
        for parameter, value in kept:
            parameter.copy_(value)
    return count
