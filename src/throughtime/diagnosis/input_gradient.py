"""The gradient of the outputs by the inputs: where it is zero, an input may be unused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.losses import first_output
from throughtime.diagnosis.trials import Trials
from throughtime.measurement.arguments import forward
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["input_gradient"]


def input_gradient(trial: Trials, x: Tensor, looked_at: Tensor | None) -> Tensor | None:
    """D (a random projection of the outputs that count) / d x.

    Args:
        trial: model and inputs.
        x: one of the inputs: numbers, or ids that go into an `nn.Embedding`.
        looked_at: bool, like the outputs: what counts; None for all.

    Returns:
        (T, B, F), of ids by their embedding; None where there is none to be had.
    """
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: tuple[Any, ...], result: Tensor) -> None:
        if args and isinstance(args[0], Tensor) and args[0].shape == x.shape and torch.equal(args[0], x):
            caught.append(result)

    hooks = [
        module.register_forward_hook(catch)
        for module in trial.model.modules()
        if isinstance(module, nn.Embedding) and not x.is_floating_point()
    ]
    try:
        with left_as_found(trial.model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            leaf = x.detach().clone().requires_grad_(x.is_floating_point())
            own = trial.time_first(leaf)
            outputs = first_output(forward(trial.model, trial.put(trial.probe.inputs, x, own)))
            return _gradient(trial, outputs, [leaf] if x.is_floating_point() else caught, looked_at)
    except RuntimeError:
        return None  # no way back through this model
    finally:
        for hook in hooks:
            hook.remove()


def _gradient(trial: Trials, outputs: Tensor, by: list[Tensor], looked_at: Tensor | None) -> Tensor | None:
    by = [tensor for tensor in by if tensor.requires_grad]
    if not by or not outputs.requires_grad or outputs.shape != trial.intact.shape:
        return None
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(outputs.shape, generator=generator).to(outputs.device, outputs.dtype)
    if looked_at is not None:
        projection = projection * looked_at
    found = torch.autograd.grad(outputs, by, projection, allow_unused=True)
    total = [torch.zeros_like(tensor) if part is None else part.abs() for tensor, part in zip(by, found, strict=True)]
    summed = torch.stack(total).sum(0)
    moved = trial.time_first(summed)
    return moved if moved.dim() > 2 else moved.unsqueeze(-1)
