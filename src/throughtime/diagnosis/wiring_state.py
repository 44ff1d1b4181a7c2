"""`state-carried-wrongly`: a state that goes on where another sequence begins, or does not where the same one goes on.

What a model keeps between calls is seen by calling copies of it twice: the second output may not depend on the first
batch. Whether one batch of the training goes on where the one before ended is a matter of the loop: `loop_state.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis import clipping
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.copies import as_ids
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.loop_state import APART, LoopState, loop_state
from throughtime.diagnosis.losses import first_output
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.state_trial import state_trial
from throughtime.diagnosis.trials import SEEN, Trials, change
from throughtime.measurement.arguments import arguments, forward
from throughtime.measurement.model_copy import copied
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["RULES"]

_CODE = "state-carried-wrongly"
_ABRUPT = 1e-3
"""Effect of the first input just before it ends, relative to its largest: what fades is smaller before it is gone."""
_MOSTLY = 0.8
_SHORT = 2
"""Steps of the second call."""
_CONSECUTIVE = 0.9
"""Of the sequences of a batch, those that begin where the one before them ends."""
_FEWEST_SEQUENCES = 4
_RESETS = ("reset", "init", "clear", "detach")


def state_carried_wrongly(evidence: Evidence) -> Finding | None:
    """What the loop was seen to do first, then between calls, then within one."""
    seen = loop_state(evidence)
    of_loop = None if seen is None else _of_loop(evidence, seen)
    if of_loop is not None:
        return of_loop
    trial = evidence.trials
    carried = _second_call(trial, torch.ones(trial.sizes[1], dtype=torch.bool))
    if carried is not None and float(carried.max()) > SEEN:
        return _of_stateful(evidence, trial, float(carried.max()), seen)
    return _within(evidence, trial) or _never_carried(evidence, trial)


def _of_loop(evidence: Evidence, seen: LoopState) -> Finding | None:
    """A watched loop that hands its state on to other rows than those that go on, or not to all of these.

    That a state is lost is said only where targets are the next inputs: sequences that seem to go on may have been cut
    for good reasons, and what a model keeps itself is not lost.
    """
    going = seen.going_on
    if going is None:
        return None
    handed = seen.handed_on
    carries = evidence.case.window is not None or handed > 0
    if going.fewer_than(handed):
        told = "a state enters sequences that it does not belong to"
    elif going.exact and going.share - max(handed, seen.kept or 0.0) > APART and carries and going.share > _MOSTLY:
        told = "the state of sequences that go on is lost"
    else:
        return None
    return Finding(
        _CODE,
        "error",
        0.95 if going.exact else 0.9,
        f"The loop hands the state on for {handed:.0%} of the rows of a batch, and {going}: {told}",
        {**seen.evidence, "window": evidence.case.window},
    )


def _second_call(trial: Trials, rows: Tensor) -> Tensor | None:
    """(B,) by how much the second call's outputs change with the `rows` (B,) of the first, relative to everything.

    The second call has few steps, where the model takes so few: a state that is wiped out by the end of a sequence was
    carried into it all the same.
    """
    other = trial.replaced(rows.expand(trial.sizes))
    for inputs in (trial.first_steps(_SHORT), trial.probe.inputs):
        try:
            pairs = [_called_twice(trial, first, inputs) for first in (trial.probe.inputs, other)]
        except Missing:
            if inputs is trial.probe.inputs:
                raise
            continue
        if not pairs[0].numel():
            continue  # of so few steps nothing is left
        found = []
        for one, two in zip(*map(trial.by_sequence, pairs), strict=True):
            found.append(change(one, two) / one.double().std(correction=0).clamp(min=1e-12).cpu())
        return min(found, key=lambda moved: float(moved.max())) if found else None
    return None


def _called_twice(trial: Trials, first: Any, second: Any, between: str | None = None) -> Tensor:
    """The output of the second of two calls of a fresh copy."""
    model = copied(trial.model)
    with left_as_found(model), torch.no_grad():
        try:
            forward(model, first)
            if between is not None:
                getattr(model, between)()
            return first_output(forward(model, second)).clone()
        except Exception as error:
            raise Missing(f"a model that can be called twice ({type(error).__name__}: {error})") from error


def _of_stateful(evidence: Evidence, trial: Trials, effect: float, seen: LoopState | None) -> Finding | None:
    half = torch.arange(trial.sizes[1]) % 2 == 1
    numbers: dict[str, Any] = {"effect": effect, "window": evidence.case.window}
    told = (
        f"The model keeps a state between calls (what it was called with before changes its outputs by {effect:.2g} of "
    )
    told += "their standard deviation)"
    if bool(half.any()):
        by_row = _second_call(trial, half)
        others = float(by_row[~half].max()) if by_row is not None else 0.0
        if others > SEEN:
            text = f"{told}, and what some sequences left behind changes those of others by {others:.2g}"
            return Finding(_CODE, "error", 0.97, text, {**numbers, "effect_on_others": others})
    consecutive = _consecutive(evidence)
    if consecutive >= _CONSECUTIVE:
        text = (
            f"{told}, row by row, and {consecutive:.0%} of the sequences of the batch go on in the row below and not "
        )
        text += "in the next batch"
        return Finding(_CODE, "error", 0.9, text, {**numbers, "consecutive": consecutive})
    rightly = None if seen is None else seen.keeps_rightly
    if rightly:
        return None
    if seen is not None and rightly is False:
        text = f"{told}, and {seen.going_on}: the state of one sequence enters an unrelated one"
        return Finding(_CODE, "error", 0.95, text, {**numbers, **seen.evidence})
    if evidence.case.history is not None and _has_targets_of_steps(evidence):
        return _of_trial(evidence, told, numbers)
    if evidence.case.window is not None:
        raise Missing("the training loop itself: whether each batch goes on where the one before ended")
    by = _reset_by(trial)
    if by is not None:
        text = f"{told}, unless {by}() is called between unrelated sequences"
        return Finding(_CODE, "warning", 0.5, text, {**numbers, "reset_by": by})
    text = f"{told}, and no window says that sequences are cut: the state of one enters an unrelated one"
    return Finding(_CODE, "error", 0.9, text, numbers)


def _of_trial(evidence: Evidence, told: str, numbers: dict[str, Any]) -> Finding | None:
    """Where batches do not tell whether they go on, what a training makes of the state that they share."""
    wanted = "batches that show whether each goes on where the one before ended"
    try:
        found = state_trial(evidence.case, clipping.clip_seen(evidence.case.history))
    except Missing as reason:
        raise Missing(f"{wanted}, or {reason}") from reason
    if not found.hurts:
        raise Missing(
            f"{wanted} ({found.num_steps} steps with this state come to a loss of {found.carried:.3g}, as many with a "
            f"reset one to {found.reset:.3g})"
        )
    return Finding(
        _CODE,
        "error",
        0.8,
        f"{told}, and {found.num_steps} steps from here with that state come to a loss of {found.carried:.3g}, as many "
        f"on the same batches with a state that is reset before each to {found.reset:.3g} (standard error of the "
        f"difference {found.error:.1g}): the state of one sequence enters an unrelated one",
        {**numbers, "loss_carried": found.carried, "loss_reset": found.reset, "standard_error": found.error},
    )


def _reset_by(trial: Trials) -> str | None:
    """A method without arguments that makes the model forget: a loop that calls it does nothing wrong."""
    for name in dir(type(trial.model)):
        if hasattr(nn.Module, name) or name.startswith("__") or not any(word in name.lower() for word in _RESETS):
            continue
        try:
            one, two = (
                _called_twice(trial, first, trial.probe.inputs, name)
                for first in (trial.probe.inputs, trial.replaced(_all(trial)))
            )
        except Missing:
            continue
        if torch.equal(one, two):
            return name
    return None


def _has_targets_of_steps(evidence: Evidence) -> bool:
    """Where each sequence has one target it ends with it; of a target for each step it may go on in the next batch."""
    y = evidence.case.targets
    return isinstance(y, Tensor) and tuple(y.shape[:2]) == tuple(evidence.x.shape[:2])


def _all(trial: Trials) -> Tensor:
    return torch.ones(trial.sizes, dtype=torch.bool)


def _consecutive(evidence: Evidence) -> float:
    """The share of sequences whose last target is the first input of the next row; 0 where targets are no inputs."""
    axes, x, y = evidence.axes.axes, evidence.x, evidence.case.targets
    if not isinstance(y, Tensor) or y.dim() < 2 or tuple(y.shape[:2]) != tuple(x.shape[:2]):
        return 0.0
    moved = as_ids(x.movedim((axes.time, axes.batch), (0, 1)))
    targets = y.movedim((axes.time, axes.batch), (0, 1))
    if (
        moved.shape != targets.shape
        or moved.size(1) < _FEWEST_SEQUENCES
        or torch.unique(moved).numel() < _FEWEST_SEQUENCES
    ):
        return 0.0
    if not bool((moved[1:] == targets[:-1]).all()):
        return 0.0
    return float(
        (targets[-1, :-1] == moved[0, 1:]).flatten(1).all(1).double().mean()
        if moved.dim() > 2
        else (targets[-1, :-1] == moved[0, 1:]).double().mean()
    )


def _within(evidence: Evidence, trial: Trials) -> Finding | None:
    """A state that begins anew in the middle of all sequences."""
    if any(isinstance(value, Tensor) and value.dtype == torch.bool for value in arguments(trial.probe.inputs)):
        return None  # a mask may say where sequences begin
    ends = [_end_of(these, first) for these in (trial, trial.redrawn()) for first in (0, 1)]
    if ends[0] is None or len(set(ends)) > 1:
        return None  # it is heard to the end, as far as a window that moves along, or until units die
    need = evidence.case.need
    severity = "warning" if need is not None and need < ends[0] else "error"
    return Finding(
        _CODE,
        severity,
        0.95 if severity == "error" else 0.5,
        f"No output from step {ends[0]} on depends on the first two inputs, while those up to there do: the state is "
        f"reset within sequences of {trial.sizes[0]} steps",
        {"reset_at": ends[0], "num_steps": trial.sizes[0], "window": evidence.case.window},
    )


def _end_of(trial: Trials, first: int) -> int | None:
    """The step from which on no output depends on the input at `first`, if that ends abruptly."""
    num_steps, batch = trial.sizes
    if num_steps < 4:
        return None
    where = torch.zeros(num_steps, batch, dtype=torch.bool)
    where[first] = True
    now = trial.outputs(trial.replaced(where))
    for intact, moved in zip(trial.layouts(trial.intact), trial.layouts(now), strict=True):
        by_step = change(intact, moved).amax(1)
        heard = (by_step > 0).nonzero().flatten().tolist()
        if not heard or heard[-1] in (first, num_steps - 1):
            return None
        if float(by_step[heard[-1]]) < _ABRUPT * float(by_step.max()):
            return None
        return int(heard[-1]) + 1
    return None


def _never_carried(evidence: Evidence, trial: Trials) -> Finding | None:
    """A window that the loop cuts sequences into, and a model that begins each of them anew."""
    window, need = evidence.case.window, evidence.case.need
    if window is None or trial.sizes[0] > window:
        return None
    with left_as_found(trial.model), torch.no_grad():
        found = forward(trial.model, trial.probe.inputs)
    if isinstance(found, (tuple, list, dict)) and len(found) > 1:
        raise Missing("the training loop itself: whether it hands the state on that the model returns")
    if need is None or need < trial.sizes[0]:
        return None
    return Finding(
        _CODE,
        "error",
        0.8,
        f"The task needs {need} steps, sequences are cut into windows of {window}, and the model neither keeps a state "
        "nor returns one: each window begins anew",
        {"need": need, "window": window, "num_steps": trial.sizes[0]},
    )


RULES = (Rule(_CODE, state_carried_wrongly),)
