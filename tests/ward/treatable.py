"""A case of the ward as a patient that `throughtime.treat` takes, with its writer's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from throughtime.remedy import TreatmentPlan
from ward.case import Batch, Case, Optimizers, Patient

__all__ = ["Treatable"]

_CLIPS = ("clip", "max_norm", "max_grad_norm")
_WINDOW = "chunk"


class Treatable:
    """What a script is for any seed: it builds, draws and trains as the script does.

    Faults that lie in the loop stay there: a clip that is far too small, a window that is too short. A plan that sets
    one of these changes the argument of the loop, as its writer would.

    Args:
        case: of the ward.
    """

    time_dim: int | None
    window: int | None
    need: int | None

    def __init__(self, case: Case) -> None:
        self.case = case
        self.patient: Patient = case.make(0)
        self.target, self.steps = self.patient.target, self.patient.steps_to_learn
        self.time_dim, self.window, self.need = self.patient.time_dim, self.patient.window, self.patient.need
        self.validation, self.lengths = self.patient.validation, self.patient.lengths
        self.honours = ("window",) if _WINDOW in self.patient.loop_arguments else ()

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (self.case.name,)

    def build(self, seed: int) -> tuple[nn.Module, Optimizers]:
        """As the script does."""
        return self.case.make(seed).build(seed)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Data and order of a seed."""
        return self.case.make(seed).batches(seed)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """As the script does."""
        return self.patient.loss(outputs, targets)

    def score(self, model: nn.Module) -> float:
        """As the script does."""
        return self.patient.score_of(model)

    def train(
        self, model: nn.Module, optimizer: Optimizers, batches: Iterator[Batch], num_steps: int, plan: TreatmentPlan
    ) -> None:
        """The script's own loop; where a plan clips, hooks of the optimizer do it and the loop does not."""
        patient = self.patient
        patient.model, patient.optimizer, patient.stream = model, optimizer, batches
        patient.num_steps_done, patient.carried = 0, None
        changes: dict[str, Any] = {}
        if plan.clip is not None:
            changes |= {name: None for name in patient.loop_arguments if name in _CLIPS}
        if plan.window is not None:
            changes[_WINDOW] = plan.window
        patient.train(num_steps, **changes)


def named(name: str) -> Treatable:
    """The patient of a case, by its name."""
    from ward.cases import CASES

    return Treatable(next(case for case in CASES if case.name == name))
