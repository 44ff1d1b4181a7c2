"""The gradient through time by one pass forward and one back, in the precision of the model: to be looked at often.

`measure` answers in float64, far beyond the range of numbers, for any model. This asks less: a module that takes
sequences of vectors, time first, and a loss at the last step alone. What fades below 1e-38 counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from throughtime.errors import InputError
from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.model_copy import copied
from throughtime.measurement.norms import state_norms
from throughtime.measurement.profile import Profiled, lag_profile
from throughtime.measurement.taps import tap_recurrences

__all__ = ["quick_gradient"]


def quick_gradient(model: nn.Module, inputs: Tensor, loss: Callable[[Tensor], Tensor]) -> GradientRecord:
    """As `measure`, of the loss at the last step.

    Args:
        model: (T, B, I) to (T, B, O); a copy of it is measured, in its mode.
        inputs: (T, B, I), all of one length.
        loss: of the outputs at the last step (B, O).

    Raises:
        InputError: if the model has no recurrence, or numbers are not finite.
    """
    with torch.random.fork_rng(devices=()):  # the modules put in draw weights, which are never used
        copy = copied(model).requires_grad_(False)
        taps = tap_recurrences(copy)
    if not taps:
        raise InputError(f"no recurrence was found in {type(model).__name__}")
    with torch.enable_grad():
        outputs = copy(inputs.detach().requires_grad_())
        value = loss(outputs[-1]).sum()
        if not bool(value.isfinite()):
            raise InputError("the loss is not finite on these inputs: there is no gradient to measure")
        (cotangent,) = torch.autograd.grad(value, outputs, retain_graph=True)
        found = state_norms(outputs, cotangent, [tap.runs[-1] for tap in taps])
    last = torch.full((inputs.size(1),), inputs.size(0) - 1)
    profiles = {
        tap.name: lag_profile(Profiled(tap, "state", norms, norms, last, ()), None)
        for tap, norms in zip(taps, found, strict=True)
    }
    top = max(profiles, key=lambda name: profiles[name].reach or 0)
    return GradientRecord(
        precision=str(inputs.dtype).removeprefix("torch."),
        seed=0,
        positions=tuple(last.tolist()),
        notes=(),
        top=top,
        values={name: asdict(profile) for name, profile in profiles.items()},
    )
