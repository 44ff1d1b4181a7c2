"""A target that the model is given: which input it is, and whether the output sees it there.

Two things have to hold: the target of an output is one of the inputs, in the data; and that output changes when this
input is replaced. Which code it is follows from where the input stands and what else the output sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.copies import Copy, copied_at_end, copied_steps, nearly_copied
from throughtime.diagnosis.counted import target_offset
from throughtime.diagnosis.series import is_forecast, looks_backwards
from throughtime.diagnosis.trials import SEEN, Trials, change

if TYPE_CHECKING:
    from throughtime.diagnosis.evidence import Evidence

__all__ = ["Leak", "leak"]

_TRIED = 3
"""Steps at which an input is replaced."""
_DIRECT = 2.0
"""An output's own target must move it so many times as much as it moves others, whatever the weights. Through a
bottleneck, as in an autoencoder, whose target is its input on purpose, it moves them alike."""
_NEIGHBOURS = 2
"""Steps to either side that are not among these others."""


@dataclass(frozen=True)
class Leak:
    """A target that the model is given.

    Attributes:
        code: of the finding.
        severity: likewise.
        copy: where it stands in the inputs.
        offset: steps from the output to the input that is its target; None where there is one target for a sequence.
        effect: of replacing that input on its output, relative to replacing everything.
        two_sided: whether the output sees later inputs too.
        where: in words.
    """

    code: str
    severity: str
    copy: Copy
    offset: int | None
    effect: float
    two_sided: bool
    where: str


def leak(evidence: Evidence) -> Leak | None:
    """Look at every input tensor for the target; see whether the model sees it there.

    Raises:
        Missing: without a tensor of targets, or a model that can be tried.
    """
    trial, y = evidence.trials, evidence.case.targets
    if not isinstance(y, Tensor):
        raise Missing("targets that are a tensor")
    given = trial.probe.targets
    assert given is not None
    by_step = trial.steps_of(given)
    for x in trial.aligned():
        moved = trial.time_first(x).detach().cpu()
        if by_step is not None:
            wanted = by_step.detach().cpu()
            copy = copied_steps(moved, wanted, trial.valid())
            found = None if copy is None else _of_steps(trial, x, copy)
            if found is None and copy is not None and copy.offset > 0:
                near = nearly_copied(moved, wanted, trial.valid())
                found = None if near is None else _of_steps(trial, x, near, answer=True)
        elif given.dim() and given.size(0) == trial.sizes[1]:
            found = _of_sequences(trial, x, moved, given.detach().cpu())
        else:
            raise Missing(f"targets of each step or each sequence; they have shape {tuple(given.shape)}")
        if found is not None:
            return found
    return None


def _of_steps(trial: Trials, x: Tensor, copy: Copy, *, answer: bool = False) -> Leak | None:
    """`answer`: whether it is known that the feature was put among the inputs, and is no series of its own."""
    shift = target_offset(trial)
    if shift is None:
        raise Missing("a loss that compares each output with one target")
    offset = shift + copy.offset
    effect, _ = _effects(trial, x, offset)
    if effect <= SEEN:
        return None
    two_sided = _two_sided(trial)
    if two_sided and offset == 0:
        own, elsewhere = _effects(trial.redrawn(), x, offset)
        if own < _DIRECT * elsewhere:
            return None
    if offset > 0:
        return Leak(
            "future-leak",
            "error",
            copy,
            offset,
            effect,
            two_sided,
            f"{offset} steps later" if offset > 1 else "one step later",
        )
    moved = trial.time_first(x).detach().cpu()
    if offset < 0:
        severity = looks_backwards(moved, copy, offset)
        return (
            None
            if severity is None
            else Leak("targets-shifted", severity, copy, offset, effect, two_sided, f"{-offset} steps before")
        )
    label = answer or (not copy.whole and not is_forecast(moved, copy))
    code = "target-leak" if two_sided or label else "targets-shifted"
    return Leak(code, "error", copy, offset, effect, two_sided, "at the same step")


def _effects(trial: Trials, x: Tensor, offset: int) -> tuple[float, float]:
    """On the output whose target is replaced, and on the others, relative to what replacing everything does."""
    num_steps, batch = trial.sizes
    steps = [round((index + 1) * num_steps / (_TRIED + 1)) for index in range(_TRIED)]
    everything = trial.outputs(trial.replaced(torch.ones(num_steps, batch, dtype=torch.bool)))
    own: list[float] = []
    others: list[float] = []
    for at in steps:
        output = at - offset
        if not 0 <= output < num_steps:
            continue
        where = torch.zeros(num_steps, batch, dtype=torch.bool)
        where[at] = True
        now = trial.outputs(trial.replaced(where, only=x))
        pairs = []
        for intact, moved, whole in zip(*map(trial.layouts, (trial.intact, now, everything)), strict=True):
            unit = change(intact, whole).square().mean().sqrt().clamp(min=1e-300)
            by_step = change(intact, moved).square().mean(1).sqrt() / unit
            far = (torch.arange(num_steps) - output).abs() > _NEIGHBOURS
            pairs.append((float(by_step[output]), float(by_step[far].mean()) if bool(far.any()) else 0.0))
        if not pairs:
            raise Missing(f"outputs with an axis of time; they have shape {tuple(trial.intact.shape)}")
        least = min(pairs)
        own.append(least[0])
        others.append(least[1])
    if not own:
        return 0.0, 0.0
    return sum(own) / len(own), sum(others) / len(others)


def _two_sided(trial: Trials) -> bool:
    """Whether an output in the middle sees later inputs."""
    num_steps, batch = trial.sizes
    middle = num_steps // 2
    where = (torch.arange(num_steps) > middle).unsqueeze(1).expand(num_steps, batch)
    everything, now = trial.everything(), trial.outputs(trial.replaced(where))
    shares = []
    for intact, moved, whole in zip(*map(trial.layouts, (trial.intact, now, everything)), strict=True):
        unit = change(intact, whole).square().mean().sqrt().clamp(min=1e-300)
        shares.append(float(change(intact, moved)[middle].square().mean().sqrt() / unit))
    return min(shares, default=0.0) > SEEN


def _of_sequences(trial: Trials, x: Tensor, moved: Tensor, targets: Tensor) -> Leak | None:
    last = trial.valid().sum(0) - 1
    found = copied_at_end(moved, targets, last)
    if found is None:
        return None
    where, copy = found
    num_steps, batch = trial.sizes
    steps = torch.arange(num_steps).unsqueeze(1)
    at = {"always": steps >= 0, "last": steps == last, "middle": steps == num_steps // 2}[where]
    effect = _on_sequences(trial, trial.replaced(at.expand(num_steps, batch), only=x))
    if effect <= SEEN:
        return None
    if where == "middle":
        return Leak("target-leak", "error", copy, None, effect, True, "in the middle of the inputs")
    label = where == "always" or (not copy.whole and not (targets.is_floating_point() and is_forecast(moved, copy)))
    code = "target-leak" if label else "targets-shifted"
    return Leak(code, "error", copy, None, effect, False, "at every step" if where == "always" else "at the last step")


def _on_sequences(trial: Trials, inputs: object) -> float:
    everything, now = trial.everything(), trial.outputs(inputs)
    shares = [
        float(
            change(intact, moved).square().mean().sqrt()
            / change(intact, whole).square().mean().sqrt().clamp(min=1e-300)
        )
        for intact, moved, whole in zip(*map(trial.by_sequence, (trial.intact, now, everything)), strict=True)
    ]
    return min(shares, default=0.0)
