"""How weights start: the pieces from which cells make their initialisations."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["glorot_blocks_", "orthogonal_blocks_", "torch_uniform_"]


def glorot_blocks_(weight: Tensor, blocks: int) -> None:
    r"""Uniform ±sqrt(6 / (fan_in + fan_out)) for each of the `blocks` matrices stacked in `weight` (blocks * H, I).

    Fan-out is that of one block: a gate has H units however many gates are stacked in one tensor.

    Reference: Glorot & Bengio 2010, *Understanding the difficulty of training deep feedforward neural networks*,
    equation 16.
    """
    for block in weight.chunk(blocks):
        nn.init.xavier_uniform_(block)


def orthogonal_blocks_(weight: Tensor, blocks: int) -> None:
    """Each of the `blocks` matrices stacked in `weight` (blocks * H, H) is orthogonal: all singular values are 1.

    Reference: Saxe, McClelland & Ganguli 2014, *Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks*, arXiv:1312.6120.
    """
    for block in weight.chunk(blocks):
        nn.init.orthogonal_(block)


def torch_uniform_(parameters: Iterable[Tensor], hidden_size: int) -> None:
    """Uniform ±1/sqrt(H) for every parameter, biases included: what `torch.nn.RNN`, `GRU` and `LSTM` do."""
    bound = 1 / math.sqrt(hidden_size)
    for parameter in parameters:
        nn.init.uniform_(parameter, -bound, bound)
