"""From the norms of gradients to a curve over lags, and what is read from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from throughtime.measurement.gradient_record import REACH_SHARE, LagProfile
from throughtime.measurement.norms import Norms
from throughtime.measurement.tap import Tap

__all__ = ["Profiled", "lag_profile"]

_LOG10_2 = math.log10(2)
_LATER = "the loss at a step depends on later ones too, which have no lag"


@dataclass(frozen=True)
class Profiled:
    """A tap with the norms of its one run that counts."""

    tap: Tap
    kind: str
    of_position: Norms
    of_all: Norms
    start: Tensor  # (B,) index of the step of lag 0, in the order of steps
    notes: tuple[str, ...]
    own_steps: bool = False

    @property
    def hears_later_steps(self) -> bool:
        """Whether the loss at a position depends on steps after it, as with attention or below a second direction."""
        later = torch.arange(self.of_position.joint.size(0)).unsqueeze(1) > self.start
        return bool((later & self.of_position.joint.isfinite()).any())


def lag_profile(found: Profiled, max_lag: int | None) -> LagProfile:
    """The curve over lags, and what is read from it."""
    name, tap, norms = found.tap.name, found.tap, found.of_position
    of_all = {
        part: _curve(found.of_all.log2[index].mean(1) * _LOG10_2, turned=tap.backward)
        for index, part in enumerate(tap.parts)
    }
    rows = torch.arange(found.start.numel())
    start = found.start
    at_zero = norms.joint[start.clamp(min=0), rows]
    base = LagProfile(
        module=name,
        kind=found.kind,
        backward=tap.backward,
        num_sequences=rows.numel(),
        log10_state_gradient=of_all,
        own_steps=found.own_steps,
    )
    counted = (start >= 0) & at_zero.isfinite()
    if bool(_beyond_range(at_zero).any()):
        return replace(base, cannot_tell="its gradient at lag 0 is not finite")
    if not bool(counted.any()):
        return replace(base, cannot_tell="the loss does not depend on it at lag 0")
    cut: tuple[str, ...] = (_LATER,) if found.hears_later_steps else ()
    if not bool(counted.all()):
        rows, start, at_zero = rows[counted], start[counted], at_zero[counted]
        base = replace(base, num_sequences=rows.numel())
        cut = (
            *cut,
            f"the loss depends on it at lag 0 in {rows.numel()} of {counted.numel()} sequences: these were measured",
        )
    num_lags = int((start - norms.exact_from).min()) + 1
    if num_lags < 1:
        reason = "its gradient leaves the range of numbers on ways that do not pass through the state"
        return replace(base, cannot_tell=reason)
    if max_lag is not None:
        num_lags = min(num_lags, max_lag + 1)
    at = start - torch.arange(num_lags).unsqueeze(1)
    if norms.exact_from:
        cut = (*cut, "earlier steps cannot be told in floating point")
    overflowed = _beyond_range(norms.joint[at, rows]).any(1).nonzero().flatten()
    if overflowed.numel():
        at = at[: int(overflowed[0])]
        cut = (*cut, f"the gradient leaves the range of numbers at lag {len(at)}: the lags stop there")
    return _with_curves(base, found, at, rows, at_zero, cut)


def _with_curves(
    base: LagProfile, found: Profiled, at: Tensor, rows: Tensor, at_zero: Tensor, cut: tuple[str, ...]
) -> LagProfile:
    """What is read from the norms of (K, B) positions `at` of `rows`, relative to those at lag 0."""
    tap, norms = found.tap, found.of_position
    parts = (norms.log2[:, at, rows] - at_zero) * _LOG10_2  # (parts, K, B)
    logs = (norms.joint[at, rows] - at_zero) * _LOG10_2  # (K, B)
    mean = logs.mean(1)
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    spread = torch.quantile(logs, levels, dim=1, interpolation="nearest").t()
    reached = (mean >= math.log10(REACH_SHARE)).nonzero().flatten()
    reach = int(reached[-1])
    decay, error = _line(mean)
    return replace(
        base,
        log10_gradient=_curve(mean),
        spread=tuple(_curve(quartiles) for quartiles in spread),
        log10_parts={part: _curve(parts[index].mean(1)) for index, part in enumerate(tap.parts)},
        decay_per_step=decay,
        decay_error=error,
        reach=reach,
        reach_censored=reach == len(at) - 1,
        notes=(*found.notes, *cut),
    )


def _line(mean: Tensor) -> tuple[float | None, float | None]:
    """Factor per step of the straight line of least squares through the finite logarithms, and its standard error."""
    lags = torch.arange(mean.numel(), dtype=torch.float64)[mean.isfinite()]
    logs = mean[mean.isfinite()]
    if lags.numel() < 3:
        return None, None
    centred = lags - lags.mean()
    slope = (centred @ logs / centred.square().sum()).item()
    residual = logs - logs.mean() - slope * centred
    error = math.sqrt((residual.square().sum() / (lags.numel() - 2) / centred.square().sum()).item())
    factor = 10**slope
    return factor, factor * math.log(10) * error


def _beyond_range(logs: Tensor) -> Tensor:
    """Where a gradient has overflowed; minus infinity is a gradient of zero."""
    return logs.isnan() | logs.isposinf()


def _curve(logs: Tensor, *, turned: bool = False) -> tuple[float | None, ...]:
    """Empty where a number overflowed: None would say that it is zero."""
    if bool(_beyond_range(logs).any()):
        return ()
    values = logs.flip(0) if turned else logs
    return tuple(value if math.isfinite(value) else None for value in values.tolist())
