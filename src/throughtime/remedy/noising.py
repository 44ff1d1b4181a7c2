"""Noise on what a model is given in training, as a hook in plain PyTorch; `TreatmentPlan.code` prints this class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from throughtime.remedy.hooking import on_first_real

__all__ = ["NoisyInputs"]


class NoisyInputs:
    """A forward pre-hook of the model: in training, Gaussian noise on its first argument of real numbers.

    What few sequences have by accident is then different each time that they are seen. For small noise and a squared
    error it is a penalty on the slope of the output, E|y(x + e) - t|^2 = E|y(x) - t|^2 + deviation^2 |dy/dx|^2.

    *Reference*: Bishop 1995, *Training with noise is equivalent to Tikhonov regularization*,
    doi:10.1162/neco.1995.7.1.108. Departure: the deviation is in units of each feature's own over the batch.

    Args:
        deviation: of the noise, in those of each feature (last axis).
    """

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments with noise on that one; as they are in eval mode."""
        return on_first_real(self.noisy, args, kwargs) if module.training else (args, kwargs)

    def noisy(self, x: Any) -> Any:
        """A tensor or a packed sequence with noise on it."""
        if isinstance(x, PackedSequence):
            return x._replace(data=self.noisy(x.data))
        rows = x.detach().flatten(0, -2) if x.dim() > 1 else x.detach().unsqueeze(-1)
        return x + self.deviation * rows.std(0, correction=0) * torch.randn_like(x)
