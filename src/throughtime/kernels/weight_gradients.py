"""The gradients by a loop's weights, after the loop: for a matrix one product, for a vector one reduction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from throughtime.kernels.dense import transposed_times, transposed_times_and_sums

__all__ = ["Pass", "weight_gradients"]

_CACHED_NUMBERS = 1 << 16
"""So many fit the cache of a core, in float32 or float64."""


class _Later(NamedTuple):
    """(T, B, H), told by its first step and by an array of which it has all steps but the last, one step later."""

    first: Tensor
    array: Tensor


@dataclass(frozen=True)
class Pass:
    """What a forward and a backward pass left behind.

    Attributes:
        projected: (T, B, G), or None where the loop's way back does not read it.
        before: the state that each step began with, each (T, B, H); or (B, H), that before the first step, where the
            outputs are the states after each.
        saved: (T, B, S), what the loop kept; zero beyond a length.
        outputs: (T, B, H).
        d_projected: (T, B, G).
        d_recurrent: (T, B, R), the gradient by what the recurrent products gave.
        d_vectors: (V,), the gradients by vectors among the weights that the loop adds up itself.
        weights: as the loop took them.
    """

    projected: Tensor | None
    before: tuple[Tensor, ...]
    saved: Tensor
    outputs: Tensor
    d_projected: Tensor
    d_recurrent: Tensor
    d_vectors: Tensor
    weights: tuple[Tensor, ...]

    @property
    def first_state(self) -> Tensor | _Later:
        """The first part of the state that each step began with."""
        before = self.before[0]
        return before if before.dim() == 3 else _Later(before, self.outputs)


def weight_gradients(loop: str, found: Pass) -> list[Tensor]:
    """One gradient for each weight of `loop`, in their order."""
    return _RULES[loop](found)


def _product(by_sums: Tensor, factors: Tensor | _Later) -> Tensor:
    """Over all steps and rows: the gradient (N, K) by W of sums = factors W^T, from (T, B, N) and (T, B, K)."""
    return transposed_times(*_pairs(by_sums, factors))


def _pairs(by_sums: Tensor, factors: Tensor | _Later) -> tuple[Any, ...]:
    """What `transposed_times` takes to sum over all steps and rows."""
    if not isinstance(factors, _Later):
        return by_sums.flatten(0, 1), factors.flatten(0, 1)
    return by_sums[1:].flatten(0, 1), factors.array[:-1].flatten(0, 1), (by_sums[0], factors.first)


def _sum_of_products(x: Tensor, y: Tensor | _Later) -> Tensor:
    """(x * y) summed over all steps and rows, (T, B, N) -> (N,); by pieces, so that the product stays in the cache."""
    if isinstance(y, _Later):
        return _sum_of_products(x[1:], y.array[:-1]).add_((x[0] * y.first).sum(0))
    steps = max(1, _CACHED_NUMBERS // x.shape[1:].numel())
    pieces = zip(torch.split(x, steps), torch.split(y, steps), strict=True)
    return torch.stack([(left * right).sum((0, 1)) for left, right in pieces]).sum(0)


def _one_matrix(found: Pass) -> list[Tensor]:
    """W of (N, H), by which the first part of the state is multiplied."""
    return [_product(found.d_recurrent, found.first_state)]


def _matrix_and_bias(found: Pass) -> list[Tensor]:
    """W of (N, H), and a bias (N,) that is added to its products."""
    pairs = _pairs(found.d_recurrent, found.first_state)
    return [*transposed_times_and_sums(*pairs, summed=found.d_recurrent.flatten(0, 1))]


def _cornn(found: Pass) -> list[Tensor]:
    """W of (H, 2 H), by which y and z are multiplied."""
    return [torch.cat([_product(found.d_recurrent, part) for part in (found.first_state, found.before[1])], dim=1)]


def _lem(found: Pass) -> list[Tensor]:
    """W of (3 H, H), by which y is multiplied, and V of (H, H), by which the new z is."""
    H = found.outputs.size(2)
    by_y, by_z = torch.split(found.d_recurrent, [3 * H, H], dim=2)
    return [_product(by_y, found.first_state), _product(by_z, found.saved[..., 4 * H :])]


def _indrnn(found: Pass) -> list[Tensor]:
    """The factors (H,) by which units multiply their own state."""
    return [_sum_of_products(found.d_recurrent, found.first_state)]


def _sru(found: Pass) -> list[Tensor]:
    """The factors (H,) of the state in the second and in the third of four blocks."""
    _, by_f, by_r, _ = found.d_projected.chunk(4, dim=2)
    (c,) = found.before
    return [_sum_of_products(by_f, c), _sum_of_products(by_r, c)]


def _layer_norm_lstm(found: Pass) -> list[Tensor]:
    """W (4 H, H), the gains of the sums (4 H), the gain and the shift of c (H)."""
    H = found.outputs.size(2)
    return [*_one_matrix(found), *(part.clone() for part in torch.split(found.d_vectors, [4 * H, H, H]))]


def _mogrifier(found: Pass) -> list[Tensor]:
    """Q_1 (I, H), R_2 (H, I), Q_3, ..., W_ih (4 H, I), W_hh (4 H, H), b (4 H)."""
    H = found.outputs.size(2)
    widths = [matrix.size(0) for matrix in found.weights[:-3]]
    by_gates, *by_rounds = torch.split(found.d_recurrent, [4 * H, *widths], dim=2)
    gated = torch.split(found.saved[..., 5 * H :], [width for width in widths for _ in range(2)], dim=2)[1::2]
    assert found.projected is not None, "its way back reads it"
    gradients, x, h = [], found.projected, found.first_state
    for index, (by_round, after) in enumerate(zip(by_rounds, gated, strict=True)):
        if index % 2 == 0:
            gradients.append(_product(by_round, h))
            x = after
        else:
            gradients.append(_product(by_round, x))
            h = after
    return [*gradients, _product(by_gates, x), _product(by_gates, h), found.d_vectors.clone()]


_RULES: dict[str, Callable[[Pass], list[Tensor]]] = {
    "elman_tanh": _one_matrix,
    "elman_relu": _one_matrix,
    "gru": _matrix_and_bias,
    "lstm": _one_matrix,
    "coupled_lstm": _one_matrix,
    "layer_norm_lstm": _layer_norm_lstm,
    "mogrifier": _mogrifier,
    "slstm": _one_matrix,
    "antisymmetric": _one_matrix,
    "antisymmetric_gated": _one_matrix,
    "cornn": _cornn,
    "lem": _lem,
    "indrnn_tanh": _indrnn,
    "indrnn_relu": _indrnn,
    "sru": _sru,
}
