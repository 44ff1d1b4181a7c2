"""Products with the Jacobian of a step of which nothing is known but that each row of a batch is computed by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from throughtime.errors import InputError

__all__ = ["autograd_products"]


def autograd_products(
    step: Callable[[Tensor, Tensor], Tensor], projected: Tensor, state: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """J @ columns by forward-mode, J^T @ columns by reverse-mode differentiation, all columns at once.

    The k columns of a row become k rows, so the step needs no rule for `vmap`; a random number that it draws would
    differ from column to column, which is why cells draw theirs in `project`.

    Args:
        step: (rows, G), (rows, D) -> the next state (rows, D).
        projected: (B, G).
        state: (B, D), where to differentiate.

    Returns:
        Two functions (B, D, k) -> (B, D, k); the first raises an InputError where the step has no derivatives.
    """

    def repeated(columns: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
        num_columns = columns.size(2)
        rows = projected.repeat_interleave(num_columns, dim=0)
        return (
            lambda states: step(rows, states),
            state.repeat_interleave(num_columns, dim=0),
            columns.transpose(1, 2).reshape(-1, columns.size(1)),
        )

    def product(columns: Tensor) -> Tensor:
        return _as_columns(_forward_mode(*repeated(columns)), columns)

    def transposed(columns: Tensor) -> Tensor:
        function, states, cotangents = repeated(columns)
        with torch.enable_grad():
            states.requires_grad_()
            after = function(states)
        if not after.requires_grad:  # the new state is a function of the input alone
            return torch.zeros_like(columns)
        (gradient,) = torch.autograd.grad(after, states, cotangents, allow_unused=True, materialize_grads=True)
        return _as_columns(gradient, columns)

    return product, transposed


def _forward_mode(function: Callable[[Tensor], Tensor], states: Tensor, tangents: Tensor) -> Tensor:
    _load_forward_rules()
    moved: Tensor
    try:
        moved = torch.func.jvp(function, (states,), (tangents,))[1]
    except (NotImplementedError, RuntimeError):
        # An operator without a forward rule, such as an autograd.Function without `jvp`: the gradient of the gradient
        # gives the same product.
        try:
            moved = torch.autograd.functional.jvp(function, states, tangents)[1]  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise InputError(f"the step of the cell cannot be differentiated by its state: {error}") from error
    return moved.detach()


@cache
def _load_forward_rules() -> None:
    """Have torch import its forward rules without its warning about its own use of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


def _as_columns(rows: Tensor, like: Tensor) -> Tensor:
    """(B * k, D) -> (B, D, k)."""
    return rows.reshape(like.size(0), like.size(2), like.size(1)).transpose(1, 2)
