"""A rehearsal: a deep copy of the patient is trained for a few steps on the batch at hand, and watched."""

from __future__ import annotations

import copy
import inspect
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.losses import mean_loss
from throughtime.errors import InputError, ThroughtimeError
from throughtime.measurement import Watch, WatchRecord, watch
from throughtime.measurement.arguments import forward, own
from throughtime.measurement.model_copy import copy_memo, with_history
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["MOST_STEPS", "Copies", "Rehearsal", "as_found", "copies_of", "rehearse", "step"]

MOST_STEPS = 50
MOST_SECONDS = 12.0
LEAST_STEPS = 10
"""However long they take: fewer say nothing."""

_NEVER = 1 << 30


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Attributes:
        model: the trained copy.
        history: as `throughtime.watch` saw it.
        losses: of each step, before its update; NaN where the loss was not finite, which ends it.
        validation_before: the mean loss of the validation batch before training; NaN without one.
        validation_after: and after.
    """

    model: nn.Module
    history: WatchRecord
    losses: tuple[float, ...]
    validation_before: float
    validation_after: float


@dataclass(frozen=True)
class Copies:
    """Of a patient, in the mode of training; nothing of the user's is shared but the data.

    Attributes:
        model: copied.
        optimizers: of the copied model.
        loss: copied where it is a module, since that has parameters of its own.
    """

    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    loss: Callable[..., Any]


def rehearse(
    case: Case,
    *,
    steps: int = MOST_STEPS,
    seconds: float = MOST_SECONDS,
    rate: float = 1.0,
    clip: float | None = None,
) -> Rehearsal:
    """Train a copy on the batch at hand; the model, its optimizers and all random states stay as they are.

    Args:
        case: whose model, optimizers, batch and loss.
        steps: at most.
        seconds: at most, once `LEAST_STEPS` are made.
        rate: all learning rates times this.
        clip: largest norm of the gradient; None does not clip.

    Raises:
        Missing: without an optimizer, where they cannot be copied, or where training fails.
    """
    if not case.optimizers:
        raise Missing("an optimizer, or a watch: what training does cannot be seen without")
    with as_found(case):
        patient = copies_of(case, rate)
        before = _validation_loss(patient, case)
        try:
            losses, history = _trained(patient, case, steps, seconds, clip)
        except InputError as error:
            raise Missing(f"an optimizer that trains this model: {error}") from error
        except Exception as error:
            raise Missing(f"a model that can be trained on this batch ({type(error).__name__}: {error})") from error
        after = _validation_loss(patient, case)
    return Rehearsal(patient.model, history, losses, before, after)


@contextmanager
def as_found(case: Case) -> Iterator[None]:
    """Work that leaves the user's model, gradients and random states as they were, whatever their loss refers to."""
    gradients = [(parameter, parameter.grad) for parameter in case.model.parameters()]
    with ExitStack() as stack:
        stack.enter_context(left_as_found(case.model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        torch.manual_seed(case.seed)
        random.seed(case.seed)
        np.random.seed(case.seed)
        for parameter, _ in gradients:
            parameter.grad = None
        try:
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient


def copies_of(case: Case, rate: float = 1.0) -> Copies:
    """Copies that belong together; a state which is kept in the model is cut off from how it came about.

    Args:
        case: of whose model, optimizers and loss.
        rate: all learning rates times this.

    Raises:
        Missing: if they cannot be copied.
    """
    memo = copy_memo(case.model)
    try:
        model, optimizers = copy.deepcopy((case.model, case.optimizers), memo)
        for optimizer, original in zip(optimizers, case.optimizers, strict=True):
            # A copied optimizer has its groups and its state; some, like LBFGS, have attributes of their own.
            missing = {name: value for name, value in vars(original).items() if name not in vars(optimizer)}
            vars(optimizer).update(copy.deepcopy({n: v for n, v in missing.items() if n != "step"}, memo))
    except Exception as error:
        raise Missing(f"a model and an optimizer that can be copied ({type(error).__name__}: {error})") from error
    try:
        loss = copy.deepcopy(case.loss, memo)
    except Exception:
        loss = case.loss
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * rate
    if not model.training:
        model.train()
        if not _runs(model, loss, case):
            model.eval()
    return Copies(model, optimizers, loss)


def _runs(model: nn.Module, loss: Callable[..., Any], case: Case) -> bool:
    try:
        with torch.no_grad(), left_as_found(model):
            mean_loss(loss, forward(model, own(case.inputs)), case.targets)
    except Exception:
        return False
    return True


def _trained(
    patient: Copies, case: Case, steps: int, seconds: float, clip: float | None
) -> tuple[tuple[float, ...], WatchRecord]:
    losses: list[float] = []
    begin = time.perf_counter()
    holding = [optimizer for optimizer in patient.optimizers if _holds(optimizer, patient.model)]
    with watch(patient.model, holding, every=_NEVER, sample_every=1) as watched:
        for number in range(1, steps + 1):
            value = step(patient, case.inputs, case.targets, clip, watched)
            losses.append(value if math.isfinite(value) else math.nan)
            late = number >= LEAST_STEPS and time.perf_counter() - begin > seconds
            if late or not math.isfinite(value):
                break
    return tuple(losses), watched.record


def step(patient: Copies, inputs: Any, targets: Any, clip: float | None, watched: Watch | None = None) -> float:
    """One step of every optimizer; the loss before it.

    Args:
        patient: to be trained.
        inputs: of the batch.
        targets: of it.
        clip: largest norm of the gradient; None does not clip.
        watched: told of the loss.
    """
    for tensor in with_history(patient.model):
        tensor.detach_()  # a state that is carried from batch to batch: loops cut it off between them
    parameters = list(patient.model.parameters())

    def closure() -> Tensor:
        for optimizer in patient.optimizers:
            optimizer.zero_grad()
        patient.model.zero_grad()
        value = mean_loss(patient.loss, forward(patient.model, own(inputs)), own(targets))
        if watched is not None:
            watched.loss(value.detach())
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        return value.detach()

    if any(map(_needs_closure, patient.optimizers)):
        values = [optimizer.step(closure) for optimizer in patient.optimizers]  # type: ignore[arg-type]  # a closure may give a tensor
        return float(values[0])
    value = closure()
    for optimizer in patient.optimizers:
        optimizer.step()
    return float(value)


def _needs_closure(optimizer: Optimizer) -> bool:
    given = inspect.signature(type(optimizer).step).parameters.get("closure")
    return given is not None and given.default is inspect.Parameter.empty


def _holds(optimizer: Optimizer, model: nn.Module) -> bool:
    theirs = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return any(id(parameter) in theirs for parameter in model.parameters())


def _validation_loss(patient: Copies, case: Case) -> float:
    if case.validation is None:
        return math.nan
    inputs: Any
    inputs, targets = case.validation
    with left_as_found(patient.model), torch.no_grad():
        patient.model.eval()
        try:
            return float(mean_loss(patient.loss, forward(patient.model, own(inputs)), targets))
        except (ThroughtimeError, RuntimeError):
            return math.nan
