"""A rehearsal: a deep copy of the patient is trained for a few steps on the batch at hand, and watched."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.losses import first_output, forward, mean_loss
from throughtime.errors import ThroughtimeError
from throughtime.measurement import WatchRecord, watch
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["MOST_STEPS", "Rehearsal", "rehearse"]

MOST_STEPS = 50
MOST_SECONDS = 12.0
_NEVER = 1 << 30


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Attributes:
        model: the trained copy.
        history: as `throughtime.watch` saw it.
        losses: of each step, before its update; NaN where the loss was.
        validation_before: the mean loss of the validation batch before training; NaN without one.
        validation_after: and after.
    """

    model: nn.Module
    history: WatchRecord
    losses: tuple[float, ...]
    validation_before: float
    validation_after: float


def rehearse(case: Case) -> Rehearsal:
    """Train a copy for at most 50 steps or 12 seconds; the model, its optimizers and all random states stay as they are.

    Raises:
        Missing: without an optimizer, or where they cannot be copied.
    """
    if not case.optimizers:
        raise Missing("an optimizer, or a watch: what training does cannot be seen without")
    try:
        model, optimizers = copy.deepcopy((case.model, case.optimizers))
    except Exception as error:
        raise Missing(f"a model and an optimizer that can be copied ({type(error).__name__}: {error})") from error
    model.train()
    with left_as_found(model), torch.inference_mode(False), torch.enable_grad():
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        before = _validation_loss(model, case)
        torch.manual_seed(case.seed)
        losses, history = _trained(model, optimizers, case)
        after = _validation_loss(model, case)
        trained = copy.deepcopy(model)
        model.load_state_dict(weights)
    return Rehearsal(trained, history, losses, before, after)


def _trained(
    model: nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], case: Case
) -> tuple[tuple[float, ...], WatchRecord]:
    losses: list[float] = []
    begin = time.perf_counter()
    with watch(model, list(optimizers), every=_NEVER, sample_every=1) as watched:
        for _ in range(MOST_STEPS):

            def closure() -> Tensor:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                value = mean_loss(case.loss, first_output(forward(model, case.inputs)), case.targets)
                if value.requires_grad:
                    value.backward()  # type: ignore[no-untyped-call]
                return value

            value = None
            if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in optimizers):
                for optimizer in optimizers:
                    value = optimizer.step(closure)  # type: ignore[arg-type, func-returns-value, assignment]
            else:
                value = closure()
                watched.loss(value)
                for optimizer in optimizers:
                    optimizer.step()
            losses.append(math.nan if value is None else float(value))
            if not math.isfinite(losses[-1]) or time.perf_counter() - begin > MOST_SECONDS:
                break
    return tuple(losses), watched.record


def _validation_loss(model: nn.Module, case: Case) -> float:
    if case.validation is None:
        return math.nan
    inputs: Any
    inputs, targets = case.validation
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return float(mean_loss(case.loss, first_output(forward(model, inputs)), targets))
    except (ThroughtimeError, RuntimeError):
        return math.nan
    finally:
        model.train(was_training)
