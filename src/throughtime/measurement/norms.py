"""Norms of the gradients by states, in logarithms, so that 0.5^5000 is a number like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.measurement.tap import Run, num_rows

__all__ = ["Norms", "log2_norm", "rescale", "state_norms"]

_FAR = 2.0**400
"""A norm that has shrunk or grown so much since the last rescaling is brought back to about 1."""

_RANGE = 900
"""Powers of two on either side of the scale within which every digit of a norm counts."""

_OVERLAP = 3
_AGREEMENT = 1e-6

_SHORTEST_WAY = 64
"""Steps that one rescaled pass goes back at least."""

_AT_ONCE = 256
"""Steps whose norms are taken together: enough to be quick, too few to double the memory."""


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


def state_norms(outputs: Tensor, cotangent: Tensor, runs: Sequence[Run]) -> list[Norms]:
    """The norms of the gradients of (outputs * cotangent).sum() by every state of the runs, in one backward pass."""
    gradients = iter(_gradients([outputs], [cotangent], [step for run in runs for step in run.steps]))
    return [Norms(_logs(run.steps, [next(gradients) for _ in run.steps])) for run in runs]


def rescale(
    found: Sequence[Norms], outputs: Tensor, cotangent: Tensor, runs: Sequence[Run], batch_axis: int | None
) -> None:
    """Measure anew, in `found`, what lies beyond the range of the floating-point numbers.

    Where norms come near its end, the gradients by the states at one step are brought back to about 1 by a power of two
    for each sequence, and the way back goes on from them for about twice as far as it got before; then again. A
    sequence whose loss lies still further back joins there. That is exact where all that leads from the loss to earlier
    states passes through these; the steps around are compared with the pass before, and where they differ nothing is
    told of earlier ones.

    Args:
        found: what `state_norms` gave.
        outputs: of the model, in whose graph the runs lie.
        cotangent: the gradient by them.
        runs: of one direction; nothing is done unless they have the same number of steps.
        batch_axis: of the sequences in the outputs; None where they cannot be told apart there.
    """
    if len({len(run.steps) for run in runs}) != 1:
        return
    scales = torch.zeros(found[0].log2.size(2), dtype=torch.float64)
    sources, cotangents = [outputs], [cotangent]
    covered, end = 0, len(runs[0].steps)
    while step := _next_stop(found, covered, end, scales):
        joint = torch.stack([norms.joint[step] for norms in found]).amax(0)
        shift = torch.where(joint.isfinite(), joint.floor(), scales)
        factor = torch.exp2(scales - shift)
        states = [part for run in runs for part in run.steps[step]]
        by_state = [g for each in _gradients(sources, cotangents, [run.steps[step] for run in runs]) for g in each]
        sources = [part for part, g in zip(states, by_state, strict=True) if g is not None]
        cotangents = [g * _along(factor, g, 0) for g in by_state if g is not None]
        late = torch.stack([norms.joint[step:].isneginf().all(0) for norms in found]).all(0)
        if batch_axis is not None and bool(late.any()):
            sources.append(outputs)
            cotangents.append(cotangent * _along(late, cotangent, batch_axis))
        covered, end = max(0, step - max(_SHORTEST_WAY, 2 * (end - step))), step
        if not sources or not _go_on(found, runs, sources, cotangents, slice(covered, step), shift, scales):
            break
        scales = shift


def _go_on(
    found: Sequence[Norms],
    runs: Sequence[Run],
    sources: list[Tensor],
    cotangents: list[Tensor],
    earlier: slice,
    scales: Tensor,
    scales_before: Tensor,
) -> bool:
    """Fill in the earlier steps; whether those next to the sources agree with what was found before."""
    gradients = iter(_gradients(sources, cotangents, [step for run in runs for step in run.steps[earlier]]))
    for norms, run in zip(found, runs, strict=True):
        steps = run.steps[earlier]
        new = _logs(steps, [next(gradients) for _ in steps]) + scales
        old = norms.log2[:, earlier]
        near = slice(-_OVERLAP, None)
        representable = (old[:, near] - scales_before).abs() < _RANGE
        if not bool(((old - new)[:, near].abs() < _AGREEMENT)[representable].all()):
            for each in found:
                each.exact_from = earlier.stop
            return False
        norms.log2[:, earlier] = new
    return True


def _next_stop(found: Sequence[Norms], covered: int, end: int, scales: Tensor) -> int:
    """The latest step before `end` at which a sequence's norm is far from its scale, but not yet zero or infinite.

    Where none is, the earliest that the last pass reached, but for those steps that the next one is compared with; 0
    where there is nothing left.
    """
    first = covered + _OVERLAP if covered else 0
    joint = torch.stack([norms.joint[first:end] for norms in found]).amax(0) - scales
    limit = torch.log2(torch.tensor(_FAR, dtype=torch.float64))
    far = ((joint.abs() > limit) & joint.isfinite()).any(1).nonzero().flatten()
    return first + int(far[-1]) if far.numel() else first


def _along(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """(B,) to be multiplied along one axis of `like`."""
    return values.to(like).view([-1 if place == axis else 1 for place in range(like.dim())])


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


def _logs(steps: Sequence[tuple[Tensor, ...]], gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """(parts, S, B), log2 of the norms; minus infinity where a gradient is zero."""
    first = steps[0]
    logs = torch.full((len(first), len(steps), num_rows(first[0])), -torch.inf, dtype=torch.float64)
    for part in range(len(first)):
        known = [(index, g) for index, of_step in enumerate(gradients) if (g := of_step[part]) is not None]
        for start in range(0, len(known), _AT_ONCE):
            indices, each = zip(*known[start : start + _AT_ONCE], strict=True)
            together = torch.stack(each).detach().to("cpu", torch.float64)
            logs[part, list(indices)] = log2_norm(together.view(len(each), logs.size(2), -1))
    return logs


def log2_norm(x: Tensor) -> Tensor:
    """(..., N) -> (...), log2 of the norms, whose squares may lie beyond the range of numbers."""
    largest = x.abs().amax(-1, keepdim=True)
    ratio = torch.where(largest > 0, x / largest, 0.0)
    return torch.log2(ratio.norm(dim=-1)) + torch.log2(largest.squeeze(-1))
