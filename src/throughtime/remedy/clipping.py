"""Clipping, in plain PyTorch: `TreatmentPlan.code` prints these functions. All change `.grad` in place.

Each is the equation of its paper; `Clipper` is what a loop calls between `loss.backward()` and `optimizer.step()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Clipper", "clip_adaptive", "clip_norm", "clip_value", "gradient_norm"]


def gradient_norm(parameters: Iterable[Tensor]) -> float:
    """The 2-norm of all gradients together."""
    norms = [torch.linalg.vector_norm(p.grad.double()) for p in parameters if p.grad is not None]
    return float(torch.stack([norm.cpu() for norm in norms]).norm()) if norms else 0.0


def clip_norm(parameters: Iterable[Tensor], bound: float) -> float:
    """Scale: g -> g min(1, bound / |g|), |g| over all parameters; returns |g| before.

    *Reference*: Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, algorithm 1.
    """
    held = [p for p in parameters if p.grad is not None]
    norm = gradient_norm(held)
    if norm > bound:
        for p in held:
            p.grad.mul_(bound / norm)  # type: ignore[union-attr]  # those without are left out above
    return norm


def clip_value(parameters: Iterable[Tensor], bound: float) -> float:
    """Each number into [-bound, bound]; returns |g| before.

    *Reference*: Mikolov 2012, *Statistical language models based on neural networks*, PhD thesis, section 3.3.2.
    """
    held = [p for p in parameters if p.grad is not None]
    norm = gradient_norm(held)
    for p in held:
        p.grad.clamp_(-bound, bound)  # type: ignore[union-attr]  # those without are left out above
    return norm


def clip_adaptive(parameters: Iterable[Tensor], bound: float, eps: float = 1e-3) -> float:
    """g_i -> g_i min(1, bound max(|w_i|, eps) / |g_i|) for the weights w_i of each unit (row) i; returns |g| before.

    A vector (of biases, say) counts as one unit.

    *Reference*: Brock, De, Smith & Simonyan 2021, *High-performance large-scale image recognition without
    normalization*, arXiv:2102.06171, equation 3; they leave the last layer out, which this does not know.
    """
    held = [p for p in parameters if p.grad is not None]
    norm = gradient_norm(held)
    for p in held:
        gradient = p.grad
        assert gradient is not None
        axes = tuple(range(1, p.dim())) if p.dim() > 1 else None
        weights, slopes = (torch.linalg.vector_norm(x, dim=axes, keepdim=True) for x in (p.detach(), gradient))
        largest = bound * weights.clamp_min(eps)
        gradient.mul_(torch.where(slopes > largest, largest / slopes.clamp_min(1e-30), torch.ones_like(slopes)))
    return norm


class Clipper:
    """Clipping by a rule with a bound; "z-score" remembers the norms so far.

        z = (|g| - mean) / deviation;   where z > bound:  |g| -> mean + bound^2 / z * deviation

    with exponential means of the norm and of its square around it, over which the clipped norm counts. The first
    `num_warmup` steps are not clipped.

    *Reference*: Kumar et al. 2025, *ZClip: adaptive spike mitigation for LLM pre-training*, arXiv:2504.02507.

    Args:
        kind: "norm", "value", "adaptive" or "z-score".
        bound: see there; 0 for no clipping at all.
        memory: of the exponential means.
        num_warmup: steps from which the first mean and deviation are taken.
    """

    def __init__(self, kind: str, bound: float, memory: float = 0.97, num_warmup: int = 25) -> None:
        self.kind, self.bound, self.memory, self.num_warmup = kind, bound, memory, num_warmup
        self.first: list[float] = []
        self.mean = self.variance = math.nan

    def __call__(self, parameters: Iterable[Tensor]) -> float:
        """Clip the gradients; returns their norm before."""
        held = list(parameters)
        if self.bound == 0:
            return gradient_norm(held)
        if self.kind == "value":
            return clip_value(held, self.bound)
        if self.kind == "adaptive":
            return clip_adaptive(held, self.bound)
        if self.kind == "norm":
            return clip_norm(held, self.bound)
        norm = gradient_norm(held)
        largest = self.largest(norm)
        if largest < norm:
            clip_norm(held, largest)
        if math.isfinite(norm):
            self.remember(min(norm, largest))
        return norm

    def largest(self, norm: float) -> float:
        """What a norm is reduced to."""
        if math.isnan(self.mean) or self.variance <= 0:
            return norm
        deviation = math.sqrt(self.variance)
        z = (norm - self.mean) / deviation
        return self.mean + self.bound**2 / z * deviation if z > self.bound else norm

    def remember(self, norm: float) -> None:
        """Take a norm into the means."""
        if math.isnan(self.mean):
            self.first.append(norm)
            if len(self.first) == self.num_warmup:
                self.mean = sum(self.first) / self.num_warmup
                self.variance = sum((each - self.mean) ** 2 for each in self.first) / self.num_warmup
            return
        self.mean = self.memory * self.mean + (1 - self.memory) * norm
        self.variance = self.memory * self.variance + (1 - self.memory) * (norm - self.mean) ** 2
