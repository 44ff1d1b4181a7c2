"""`unused-input`: a part of the inputs that no output which counts depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.counted import counted_gradient
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.input_gradient import input_gradient
from throughtime.diagnosis.losses import mean_loss
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.trials import Trials
from throughtime.diagnosis.wiring_mixing import batch_mixing
from throughtime.errors import InputError
from throughtime.measurement.arguments import tensors_among

__all__ = ["RULES"]

_SEVERE_FEATURES = 0.25
"""Of the features that vary; a column that is carried along and left out on purpose is less."""
_SEVERE_STEPS = 0.1
"""Of the steps; a model that shifts inside leaves one out."""
_FEWEST_STEPS = 2
_ABRUPT = 1e-6
"""Gradient at the first step that is used, relative to the largest: one that fades to nothing is far smaller there."""
_STRONG = 3.0
"""Standard deviations by which numbers are moved to both sides: a closed ReLU opens to one of them."""
_MOST_COLUMNS = 32
"""Of a tensor without time: each is a trial of its own."""
_KINDS = 12
"""Ids that are tried in the place of another."""
_TOLD_APART = 1 / 3
"""Of these; fewer are as good as ignored."""
_FEWEST_KINDS = 6


def unused_input(evidence: Evidence) -> Finding | None:
    """A tensor, features, steps or ids that can be replaced, and no output that counts gives another number."""
    trial = evidence.trials
    if not bool(trial.intact.isfinite().all()):
        raise Missing("outputs that are finite: NaN stays NaN whatever the inputs are")
    if (deaf := _deaf_loss(trial)) is not None:
        return deaf
    weights = counted_gradient(trial)
    looked_at = None if weights is None or not bool((weights != 0).any()) else weights != 0
    found = _tensor(trial, looked_at)
    if found is not None:
        return found
    found = (
        _features(trial, looked_at)
        or _steps(evidence, trial, looked_at)
        or _ids(trial, looked_at)
        or _columns(trial, looked_at)
    )
    if found is None or found.severity != "error":
        return found
    mixing = batch_mixing(evidence)  # a model that takes one axis for the other misses what lies along it
    return replace(found, follows=mixing.code) if mixing is not None and mixing.severity == "error" else found


def _deaf_loss(trial: Trials) -> Finding | None:
    """A loss that is the same number whatever the outputs are: those of other sequences, smaller and larger ones."""
    own = trial.intact
    others = [other for axis in range(own.dim()) if not torch.equal(other := own.roll(1, axis), own)]
    if not own.is_floating_point() or not others:
        return None
    others += [scale * own for scale in (0.5, 100.0, -100.0)]  # a margin that is kept is no deafness
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(0)).to(own)
    others.append(own + noise * own.abs().max().clamp_min(1.0))  # outputs may all be the same number
    try:
        with torch.no_grad():  # a loss may have weights of its own
            losses = [float(mean_loss(trial.loss, these, trial.probe.targets)) for these in (own, *others)]
    except InputError:
        return None
    if any(loss != losses[0] for loss in losses):
        return None
    return Finding(
        "unused-input",
        "error",
        0.98,
        f"The loss is {losses[0]:.4g} whatever the outputs are: it does not look at them, so nothing can be learned "
        "from the inputs",
        {"part": "outputs", "loss": losses[0]},
    )


def _unchanged(trial: Trials, looked_at: Tensor | None, inputs: list[Any]) -> bool:
    """Whether no output that counts changes with any of these inputs, with the weights as they are and with others.

    Dead units, shut gates and a last layer that begins at zero hide an input with some weights alone.
    """
    for these in (trial, trial.redrawn()):
        for given in inputs:
            now = these.outputs(given)
            if now.shape != these.intact.shape:
                return False
            same = (now == these.intact) | (now.isnan() & these.intact.isnan())
            if not bool(same.all() if looked_at is None else same[looked_at.broadcast_to(same.shape)].all()):
                return False
    return True


def _moved(trial: Trials, x: Tensor, where: Tensor) -> list[Any]:
    """Inputs with x at `where`, like (T, B, ...), replaced: by another sequence's, and by other ids or numbers."""
    own = trial.time_first(x)
    others = [trial.lent(x)]
    if x.is_floating_point():
        spread = own.flatten(0, 1).std(0) if own.dim() > 2 else own.std()
        others += [own + _STRONG * spread, own - _STRONG * spread]
    else:
        kinds, codes = torch.unique(own, return_inverse=True)
        others.append(kinds[(codes + 1) % kinds.numel()])  # all sequences may have the same id there
    return [trial.put(trial.probe.inputs, x, torch.where(where, other, own)) for other in others]


def _is_unused(trial: Trials, looked_at: Tensor | None, x: Tensor, where: Tensor) -> bool:
    return _unchanged(trial, looked_at, _moved(trial, x, where))


def _tensor(trial: Trials, looked_at: Tensor | None) -> Finding | None:
    tensors = trial.aligned()
    for index, x in enumerate(tensors):
        own = trial.time_first(x)
        if bool((own == trial.lent(x)).all()) or _is_target(trial, x):
            continue  # the same in all sequences: a position, or a placeholder; or a target, for a loss in the model
        if _is_unused(trial, looked_at, x, torch.ones_like(own, dtype=torch.bool)):
            alone = len(tensors) == 1 and not trial.static() and not trial.apart()
            return _all_of("the inputs" if alone else f"input tensor {index} of shape {tuple(x.shape)}", index)
    for x, axis in trial.apart():
        if bool((x == x.roll(1, axis)).all()) or _is_target(trial, x):
            continue
        others = _exchanged_whole(trial, x, axis)
        if _unchanged(trial, looked_at, others) and _unchanged(trial.training(), looked_at, others):
            index = next(at for at, value in enumerate(tensors_among(trial.probe.inputs)) if value is x)
            return _all_of(f"input tensor {index} of shape {tuple(x.shape)}", index)
    return None


def _all_of(which: str, index: int) -> Finding:
    return Finding(
        "unused-input",
        "error",
        0.98,
        f"All of {which} can be replaced, whatever the weights, and not one of the outputs that the loss looks at "
        "changes",
        {"part": "tensor", "index": index, "share": 1.0},
    )


def _exchanged_whole(trial: Trials, x: Tensor, axis: int) -> list[Any]:
    """Inputs with a tensor that lies otherwise than the first replaced: by other sequences', and by other numbers."""
    others = [x.roll(1, axis)]
    if x.is_floating_point():
        others += [x + _STRONG * x.std(), x - _STRONG * x.std()]
    return [trial.exchanged(x, other) for other in others]


def _columns(trial: Trials, looked_at: Tensor | None) -> Finding | None:
    """Of tensors without time: those columns that tell the sequences apart, and are not used."""
    for x in trial.static():
        table = x.unsqueeze(-1) if x.dim() == 1 else x
        varies = (table != table[:1]).any(0).nonzero().flatten().tolist()
        if len(varies) > _MOST_COLUMNS or _is_target(trial, x):
            continue
        silent = [column for column in varies if _unchanged(trial, looked_at, _with_column(trial, x, column))]
        if silent and len(silent) / len(varies) >= _SEVERE_FEATURES:
            return Finding(
                "unused-input",
                "error",
                0.9,
                f"{len(silent)} of the {len(varies)} columns that vary of the input of shape {tuple(x.shape)} "
                f"({', '.join(map(str, silent))}) can be replaced, whatever the weights, and not one of the outputs "
                "that the loss looks at changes",
                {"part": "columns", "features": silent, "share": len(silent) / len(varies)},
            )
    return None


def _is_target(trial: Trials, x: Tensor) -> bool:
    target = trial.probe.targets
    return isinstance(target, Tensor) and target.numel() == x.numel() and torch.equal(target.flatten(), x.flatten())


def _with_column(trial: Trials, x: Tensor, column: int) -> list[Any]:
    """Inputs with one column of a tensor (B, F) or (B,) replaced."""
    own = x if x.dim() == 1 else x[:, column]
    others = [own.roll(shift, 0) for shift in (1, own.size(0) // 2)]
    if x.is_floating_point():
        others += [own + _STRONG * own.std(), own - _STRONG * own.std()]
    found = []
    for other in others:
        changed = x.clone()
        (changed if x.dim() == 1 else changed[:, column]).copy_(other)
        found.append(trial.exchanged(x, changed))
    return found


def _features(trial: Trials, looked_at: Tensor | None) -> Finding | None:
    x = trial.aligned()[0]
    if not x.is_floating_point() or x.dim() != 3 or x.size(-1) < 2:
        return None
    gradient = input_gradient(trial, x, looked_at)
    if gradient is None:
        return None
    flat = trial.time_first(x).flatten(0, 1)
    varies = flat.amax(0) > flat.amin(0)
    silent = (gradient == 0).flatten(0, 1).all(0) & varies
    if not bool(silent.any()) or not _is_unused(trial, looked_at, x, silent.broadcast_to(trial.time_first(x).shape)):
        return None
    count, total = int(silent.sum()), int(varies.sum())
    severe = count / total >= _SEVERE_FEATURES
    names = ", ".join(map(str, silent.nonzero().flatten().tolist()[:8]))
    return Finding(
        "unused-input",
        "error" if severe else "warning",
        0.95 if severe else 0.6,
        f"{count} of the {total} input features that vary ({names}) can be replaced, and not one of the outputs that "
        "the loss looks at changes",
        {"part": "features", "features": silent.nonzero().flatten().tolist(), "share": count / total},
    )


def _steps(evidence: Evidence, trial: Trials, looked_at: Tensor | None) -> Finding | None:
    x = trial.aligned()[0]
    gradient = input_gradient(trial, x, looked_at)
    if gradient is None:
        return None
    valid = trial.valid()
    size = gradient.flatten(2).abs().amax(-1).cpu() * valid
    by_step = size.amax(1)
    silent = (by_step == 0) & valid.any(1)
    count, num_steps = int(silent.sum()), int(valid.any(1).sum())
    if count < _FEWEST_STEPS or count < _SEVERE_STEPS * num_steps or count == num_steps:
        return None
    if _fades(by_step, silent):
        return None
    own = trial.time_first(x)
    where = silent.view(-1, *[1] * (own.dim() - 1)).to(own.device).broadcast_to(own.shape)
    if not _is_unused(trial, looked_at, x, where):
        return None  # heard, though without a gradient: that is a cut of the gradient and not of the input
    steps = silent.nonzero().flatten().tolist()
    window = evidence.case.window
    if window is not None and steps == list(range(steps[-1] + 1)) and (steps[-1] + 1) % window == 0:
        return None  # a state that is reset there: another finding
    return Finding(
        "unused-input",
        "error",
        0.95,
        f"{count} of {num_steps} steps (from {steps[0]} to {steps[-1]}) can be replaced, and not one of the outputs "
        "that the loss looks at changes",
        {"part": "steps", "first": steps[0], "last": steps[-1], "share": count / num_steps},
    )


def _fades(by_step: Tensor, silent: Tensor) -> bool:
    """Whether the gradient grows small before it is zero: it has left the range of the numbers, and is not cut off."""
    used = ~silent & (by_step > 0)
    beside = torch.zeros_like(used)
    beside[1:] |= silent[:-1]
    beside[:-1] |= silent[1:]
    beside &= used
    return not bool(beside.any()) or float(by_step[beside].max()) < _ABRUPT * float(by_step.max())


def _ids(trial: Trials, looked_at: Tensor | None) -> Finding | None:
    """Ids that look alike: each of some is put in the same place."""
    x = trial.aligned()[0]
    if x.is_floating_point() or x.dim() != 2:
        return None
    kinds = torch.unique(trial.time_first(x)[trial.valid().to(x.device)])
    if kinds.numel() < _FEWEST_KINDS:
        return None
    tried = kinds[torch.linspace(0, kinds.numel() - 1, min(_KINDS, kinds.numel())).long()]
    last = trial.valid().sum(0) - 1
    enough = max(1, int(_TOLD_APART * tried.numel())) + 1
    groups = 0
    for redrawn in (False, True):
        for at in (last, last // 2):
            these = trial.redrawn() if redrawn else trial
            groups = max(groups, _groups(these, looked_at, x, tried, at, enough))
            if groups >= enough:
                return None
    return Finding(
        "unused-input",
        "error",
        0.9,
        f"Of {tried.numel()} ids that were put in the same place, the outputs that the loss looks at tell {groups} "
        "apart: the others give the same numbers",
        {"part": "ids", "tried": int(tried.numel()), "told_apart": groups},
    )


def _groups(trial: Trials, looked_at: Tensor | None, x: Tensor, tried: Tensor, at: Tensor, enough: int) -> int:
    """How many of the ids that were tried give outputs of their own; counted as far as `enough`."""
    own = trial.time_first(x)
    where = (torch.arange(trial.sizes[0]).unsqueeze(1) == at).to(x.device)
    seen = set()
    for kind in tried:
        now = trial.outputs(trial.put(trial.probe.inputs, x, torch.where(where, kind, own)))
        if now.shape != trial.intact.shape:
            raise Missing("outputs whose shape does not depend on the values of the inputs")
        kept = now if looked_at is None else torch.where(looked_at, now, 0.0)
        seen.add(kept.contiguous().cpu().float().numpy().tobytes())
        if len(seen) >= enough:
            break
    return len(seen)


RULES = (Rule("unused-input", unused_input),)
