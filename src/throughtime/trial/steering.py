"""The part of a plan that concerns the training loop, brought into any loop through hooks of its optimizer.

A loop that calls `optimizer.step()` is clipped, warmed up and stopped early without knowing of it: the same for the
loop of this package and for a user's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from throughtime.remedy import TreatmentPlan
from throughtime.remedy.clipping import Clipper
from throughtime.remedy.finiteness import all_finite
from throughtime.remedy.omega import Omega

__all__ = ["Steered", "steered"]

_EVALUATIONS = 20
"""How often, in a training, the validation loss is looked at where a plan stops early."""


class _Enough(BaseException):
    """Ends a training; no Exception, so that no handler of the user's takes it for an error."""


@dataclass
class Steered:
    """What the hooks know of a training.

    Attributes:
        plan: to be honoured.
        num_steps: of the whole training.
        clip: the norm that the gradient is clipped to where the plan says nothing of it; None for none.
        validation_loss: on data that is not trained on; None where there is none.
        num_done: updates made.
        num_left_out: updates left out since they were not finite.
        num_rows_left_out: sequences left out of batches since their inputs were not finite.
        stopped_after: the update after which it was stopped early.
    """

    plan: TreatmentPlan
    num_steps: int
    clip: float | None = None
    validation_loss: Callable[[], float] | None = None
    num_done: int = 0
    num_left_out: int = 0
    num_rows_left_out: int = 0
    stopped_after: int | None = None

    @property
    def warmup_factor(self) -> float:
        """Of the learning rate at the present update."""
        num_warm = int((self.plan.warmup_share or 0.0) * self.num_steps)
        return min(1.0, (self.num_done + 1) / num_warm) if num_warm else 1.0


@contextmanager
def steered(steer: Steered, model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Hooks on the optimizer for as long as this is entered; an early stop ends the block inside.

    Args:
        steer: the plan and what is known of the training.
        model: whose best weights are kept where the plan stops early.
        optimizer: that trains it.
    """
    gradients = _Gradients(steer, model, optimizer)
    patience = steer.plan.patience if steer.validation_loss is not None else None
    best = None if patience is None else _Best(model, patience)
    rates: list[float] = []

    def before(*_: Any) -> None:
        gradients.treat()
        rates[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] *= steer.warmup_factor

    def after(*_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        steer.num_done += 1
        if best is not None and steer.num_done % max(1, steer.num_steps // _EVALUATIONS) == 0:
            assert steer.validation_loss is not None
            best.look(steer.validation_loss())

    handles = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
    try:
        yield
    except _Enough:
        steer.stopped_after = steer.num_done
    finally:
        for handle in handles:
            handle.remove()
        if best is not None:
            best.restore()


class _Best:
    """The weights with the least validation loss so far."""

    def __init__(self, model: nn.Module, patience: int) -> None:
        self.model, self.patience = model, patience
        self.loss, self.num_since = math.inf, 0
        self.weights: dict[str, Any] | None = None

    def look(self, loss: float) -> None:
        """Raises _Enough where it has got no better for too long."""
        if loss < self.loss:
            self.loss, self.num_since, self.weights = loss, 0, copy.deepcopy(self.model.state_dict())
            return
        self.num_since += 1
        if self.num_since >= self.patience:
            raise _Enough

    def restore(self) -> None:
        """Put them back."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)


class _Gradients:
    """What a plan does to the gradients before an update."""

    def __init__(self, steer: Steered, model: nn.Module, optimizer: Optimizer) -> None:
        plan = steer.plan
        bound = steer.clip if plan.clip is None else plan.clip
        self.steer = steer
        self.parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.clipper = None if bound is None else Clipper(plan.clip_kind or "norm", bound)
        self.omega = None if plan.omega is None else Omega(model, plan.omega)

    def treat(self) -> None:
        """Regularise, leave out, clip."""
        if self.omega is not None:
            self.omega()
        if self.steer.plan.drop_non_finite and not all_finite(self.parameters):
            for parameter in self.parameters:
                parameter.grad = None  # an optimizer passes over what has no gradient
            self.steer.num_left_out += 1
        if self.clipper is not None:
            self.clipper(self.parameters)
