"""One update: loss, gradient, clip, step; nothing that is not finite gets past it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from throughtime.errors import NonFiniteError
from throughtime.model import State
from throughtime.recipe import Plan

__all__ = ["Update", "make_optimizer", "update"]


@dataclass(frozen=True)
class Update:
    """What one update found.

    Attributes:
        loss_nats: mean over the targets.
        gradient_norm: over all parameters, before clipping.
        state: to be carried into the next window.
    """

    loss_nats: float
    gradient_norm: float
    state: State


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only (Loshchilov & Hutter 2019, arXiv:1711.05101)."""
    parameters = list(model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.dim() > 1], "weight_decay": plan.weight_decay},
        {"params": [bias for bias in parameters if bias.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.99), fused=True)


def update(
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    batch: tuple[Tensor, int, int],
    state: State,
    *,
    step: int,
    clip: float,
    learning_rate: float,
) -> Update:
    """Make update `step` (counted from 1).

    Args:
        model: called as `model(ids, first, last, state) -> (loss, state)`.
        optimizer: of the model's parameters.
        batch: ids (S, B) and the target rows `first <= t < last`.
        state: what the window before left behind.
        step: for the error message.
        clip: the largest gradient norm that is applied.
        learning_rate: of this update.

    Raises:
        NonFiniteError: before the weights are touched, if they, the loss or a gradient are not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss, state = model(*batch, state)
    loss.backward()
    named = {name: weight for name, weight in model.named_parameters() if weight.grad is not None}
    gradients = [weight.grad for weight in named.values() if weight.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    size = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([weight.detach() for weight in named.values()])))
    loss_nats, gradient_norm, weight_norm = torch.stack([loss.detach(), norm, size]).tolist()
    if not math.isfinite(loss_nats + gradient_norm + weight_norm):
        raise NonFiniteError(_where_it_began(step, loss_nats, named))
    if gradient_norm > clip:
        torch._foreach_mul_(gradients, clip / gradient_norm)
    optimizer.step()
    return Update(loss_nats, gradient_norm, state)


def _where_it_began(step: int, loss_nats: float, named: dict[str, nn.Parameter]) -> str:
    """Weights come before the loss, and the loss before its gradient."""
    for name, weight in named.items():
        if not torch.isfinite(weight).all():
            return f"step {step}: the weights '{name}' are not finite; the update of step {step - 1} began it"
    if not math.isfinite(loss_nats):
        return f"step {step}: the loss is {loss_nats}, with finite weights; the forward pass began it"
    for name, weight in named.items():
        if weight.grad is not None and not torch.isfinite(weight.grad).all():
            return (
                f"step {step}: the gradient of '{name}' is not finite, with a finite loss; the backward pass began it"
            )
    return f"step {step}: the norm of the gradient or of the weights overflows, though each number is finite"
