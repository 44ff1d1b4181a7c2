"""The gradients by a loop's weights: one matrix product after the loop, for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Pass", "weight_gradients"]


@dataclass(frozen=True)
class Pass:
    """What a forward and a backward pass left behind.

    Attributes:
        projected: (T, B, G).
        before: the state that each step began with, each (T, B, H).
        saved: (T, B, S * H).
        outputs: (T, B, H).
        d_projected: (T, B, G).
        d_recurrent: (T, B, R), the gradient by what the recurrent products gave.
        weights: as the loop took them.
    """

    projected: Tensor
    before: tuple[Tensor, ...]
    saved: Tensor
    outputs: Tensor
    d_projected: Tensor
    d_recurrent: Tensor
    weights: tuple[Tensor, ...]


def weight_gradients(loop: str, found: Pass) -> list[Tensor]:
    """One gradient for each weight of `loop`, in their order."""
    return _RULES[loop](found)


def _product(by_sums: Tensor, factors: Tensor) -> Tensor:
    """Over all steps and rows: the gradient (N, K) by W of sums = factors W^T, from (T, B, N) and (T, B, K)."""
    return by_sums.flatten(0, 1).t() @ factors.flatten(0, 1)


def _one_matrix(found: Pass) -> list[Tensor]:
    """W of (N, H), by which the first part of the state is multiplied."""
    return [_product(found.d_recurrent, found.before[0])]


def _matrix_and_bias(found: Pass) -> list[Tensor]:
    """W of (N, H), and a bias (N,) that is added to its products."""
    return [*_one_matrix(found), found.d_recurrent.sum((0, 1))]


_RULES: dict[str, Callable[[Pass], list[Tensor]]] = {
    "elman_tanh": _one_matrix,
    "elman_relu": _one_matrix,
    "gru": _matrix_and_bias,
    "lstm": _one_matrix,
}
