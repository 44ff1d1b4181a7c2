"""An auxiliary loss that has the recurrence remember, in plain PyTorch; `TreatmentPlan.code` prints it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer

from throughtime.remedy.hooking import outer_recurrences
from throughtime.remedy.optimizing import set_groups

__all__ = ["attach_auxiliary_loss"]


class WithLoss(torch.autograd.Function):
    """A tensor as it is, whose backward pass goes through a loss beside it as well."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, loss: Tensor) -> Tensor:
        """Give y; keep the form of the loss."""
        ctx.like = loss.detach()
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of y as it is, and one of 1 for the loss."""
        return gradients[0], torch.ones_like(ctx.like)


class Reconstruction:
    """A hook of a recurrent layer: in training, its outputs have to tell what it was given k steps before.

    Args:
        decoder: (B, H) -> (B, I).
        weight: of the mean squared error, relative to the variance of what is told.
        steps: k.
        time: the axis of time.
    """

    def __init__(self, decoder: nn.Module, weight: float, steps: int, time: int) -> None:
        self.decoder, self.weight, self.steps, self.time = decoder, weight, steps, time

    def __call__(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> Any:
        """What the layer returned, with the loss behind its outputs."""
        if not args:  # called by name
            return result
        x, y = args[0], result[0]
        if not module.training or isinstance(x, PackedSequence) or not y.requires_grad or x.dim() != 3:
            return result
        count = x.size(self.time) - self.steps
        if count < 1:
            return result
        wanted = x.detach().narrow(self.time, 0, count)
        error = (self.decoder(y.narrow(self.time, self.steps, count)) - wanted).square().mean()
        loss = self.weight * error / wanted.var().clamp_min(1e-8)
        return (WithLoss.apply(y, loss), *result[1:])  # type: ignore[no-untyped-call]  # of torch


def attach_auxiliary_loss(model: nn.Module, optimizer: Optimizer, weight: float, steps: int) -> int:
    """Have every recurrent layer tell its inputs of `steps` steps before, by a linear decoder that learns beside it.

    The loss is added where the outputs are: the loop stays as it is. The decoders are parts of the model
    (`reconstruction_0`, ...) and of the optimizer's first group; they do nothing in eval mode. Packed sequences are
    left alone.

    *Reference*: Trinh, Dai, Luong & Le 2018, *Learning longer-term dependencies in RNNs with auxiliary losses*,
    arXiv:1803.00144. Departures: a linear decoder of one input in place of a recurrent one of a stretch, at all steps.

    Returns:
        How many layers do.
    """
    layers: list[Any] = [module for module in outer_recurrences(model) if not isinstance(module, nn.RNNCellBase)]
    groups = [dict(group) for group in optimizer.param_groups]
    for number, layer in enumerate(layers):
        like = next(layer.parameters())
        width = layer.hidden_size * (2 if layer.bidirectional else 1)
        decoder = nn.Linear(width, layer.input_size, device=like.device, dtype=like.dtype)
        model.add_module(f"reconstruction_{number}", decoder)
        groups[0]["params"] = [*groups[0]["params"], *decoder.parameters()]
        time = 1 if getattr(layer, "batch_first", False) else 0
        layer.register_forward_hook(Reconstruction(decoder, weight, steps, time))
    set_groups(optimizer, groups)
    return len(layers)
