"""Norms of the gradients by states, in logarithms, so that 0.5^5000 is a number like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.measurement.taps import Run

__all__ = ["Norms", "log2_norm", "state_norms"]

_FAR = 2.0**400
"""A norm that has shrunk or grown so much since the last rescaling is brought back to about 1."""

_OVERLAP = 3
_AGREEMENT = 1e-6


@dataclass
class Norms:
    """Of one run of a tap.

    Attributes:
        log2: (parts, S, B), the logarithm of the norm of the gradient by each part at each step, in the order of steps.
        exact_from: the first step from which on they are exact; before it nothing can be told.
    """

    log2: Tensor
    exact_from: int = 0

    @property
    def joint(self) -> Tensor:
        """(S, B), of all parts together."""
        return torch.logsumexp(self.log2 * (2 * _LN2), dim=0) / (2 * _LN2)


_LN2 = 0.6931471805599453


def state_norms(outputs: Tensor, cotangent: Tensor, runs: Sequence[Run], *, rescale: bool = True) -> list[Norms]:
    """The norms of the gradients of (outputs * cotangent).sum() by every state of the runs.

    In one backward pass, and as many shorter ones as the range of the floating-point numbers demands: where norms leave
    it, the gradients by the states at one step are brought back to about 1 by a power of two for each sequence, and the
    way back goes on from them. That is exact where all that leads from the loss to earlier states passes through these;
    the steps around are compared with the pass before, and where they differ nothing is told of earlier ones.

    Args:
        outputs: of the model, in whose graph the runs lie.
        cotangent: the gradient by them.
        runs: of one direction, and of the same number of steps if they are to be rescaled.
        rescale: whether to try.

    Returns:
        One for each run.
    """
    found = [Norms(_logs(run, _gradients([outputs], [cotangent], run.steps))) for run in runs]
    together = len({len(run.steps) for run in runs}) == 1
    if not rescale or not together:
        return found
    scales = torch.zeros(found[0].log2.size(2), dtype=torch.float64)
    sources, cotangents, end = [outputs], [cotangent], len(runs[0].steps)
    while (step := _first_far(found, end, scales)) is not None:
        joint = torch.stack([norms.joint[step] for norms in found]).amax(0)
        shift = torch.where(joint.isfinite(), joint.floor(), scales)
        factor = torch.exp2(scales - shift)
        states, gradients = [], []
        for run in runs:
            for part, gradient in zip(
                run.steps[step], _gradients(sources, cotangents, run.steps[step : step + 1])[0], strict=True
            ):
                if gradient is not None:
                    states.append(part)
                    gradients.append(gradient * factor.to(gradient).view(-1, *[1] * (gradient.dim() - 1)))
        sources, cotangents, end, scales = states, gradients, step, shift
        if not sources or not _go_on(found, runs, sources, cotangents, step, scales):
            break
    return found


def _go_on(
    found: list[Norms],
    runs: Sequence[Run],
    sources: list[Tensor],
    cotangents: list[Tensor],
    step: int,
    scales: Tensor,
) -> bool:
    """Fill in what lies before `step`; whether the steps next to it agree with what was found before."""
    for norms, run in zip(found, runs, strict=True):
        earlier = _logs(run, _gradients(sources, cotangents, run.steps[:step])) + scales
        near = slice(max(0, step - _OVERLAP), step)
        old, new = norms.log2[:, near], earlier[:, near]
        representable = (old > old.new_tensor(-900)) & old.isfinite()
        if not bool(((old - new).abs() < _AGREEMENT)[representable].all()):
            for each in found:
                each.exact_from = step
            return False
        norms.log2[:, :step] = earlier
    return True


def _first_far(found: list[Norms], end: int, scales: Tensor) -> int | None:
    """The latest step before `end` at which a sequence's norm is far from its scale, but not yet zero or infinite."""
    joint = torch.stack([norms.joint[:end] for norms in found]).amax(0) - scales
    limit = torch.log2(torch.tensor(_FAR, dtype=torch.float64))
    far = ((joint.abs() > limit) & joint.isfinite()).any(1).nonzero().flatten()
    return None if not far.numel() else int(far[-1]) or None


def _gradients(
    sources: list[Tensor], cotangents: list[Tensor], steps: Sequence[tuple[Tensor, ...]]
) -> list[list[Tensor | None]]:
    """By each part of each step; None where nothing depends on it."""
    flat = [part for step in steps for part in step]
    wanted = [part for part in flat if part.requires_grad]
    if not wanted or not any(source.requires_grad for source in sources):
        return [[None] * len(step) for step in steps]
    gradients = iter(torch.autograd.grad(sources, wanted, cotangents, retain_graph=True, allow_unused=True))
    each = iter([next(gradients) if part.requires_grad else None for part in flat])
    return [[next(each) for _ in step] for step in steps]


def _logs(run: Run, gradients: list[list[Tensor | None]]) -> Tensor:
    """(parts, S, B), log2 of the norms; minus infinity where a gradient is zero."""
    steps = []
    for step, of_step in zip(run.steps, gradients, strict=False):
        norms = []
        for part, gradient in zip(step, of_step, strict=True):
            if gradient is None:
                norms.append(torch.full((part.size(0),), -torch.inf, dtype=torch.float64))
                continue
            norms.append(log2_norm(gradient.detach().to("cpu", torch.float64).flatten(1)))
        steps.append(torch.stack(norms))
    if not steps:
        return torch.empty(len(run.steps[0]), 0, run.steps[0][0].size(0), dtype=torch.float64)
    return torch.stack(steps, dim=1)


def log2_norm(x: Tensor) -> Tensor:
    """(..., N) -> (...), log2 of the norms, whose squares may lie beyond the range of numbers."""
    largest = x.abs().amax(-1, keepdim=True)
    ratio = torch.where(largest > 0, x / largest, 0.0)
    return torch.log2(ratio.norm(dim=-1)) + torch.log2(largest.squeeze(-1))
