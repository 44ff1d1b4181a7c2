"""What training tells its observers. An observer is a plain callable; it never changes the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from throughtime.model import WordPredictor
from throughtime.training.evaluation import Evaluation
from throughtime.training.schedule import Schedule

__all__ = ["Evaluated", "Event", "GradientSeen", "Measuring", "Observer", "Saved", "Started", "Stepped", "Stopped"]


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """The time of a step is about to be measured, to turn minutes into steps."""

    minutes: float


@dataclass(frozen=True, kw_only=True)
class Started:
    """The first step is about to be made.

    Attributes:
        first_step: 0, or where a resumed run goes on.
        schedule: the settled budget.
        window: steps of truncated backpropagation through time.
        words_per_step: targets in one update, over all processes.
        num_parameters: of the model.
        model: the network itself, to be looked at and left as it is.
        skipped_checkpoints: damaged ones, and why each was passed over.
    """

    first_step: int
    schedule: Schedule
    window: int
    words_per_step: int
    num_parameters: int
    model: WordPredictor = field(repr=False, compare=False)
    skipped_checkpoints: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One update was made.

    Attributes:
        step: how many have been made.
        loss_nats: of this batch; an estimate where the softmax is sampled.
        gradient_norm: over all parameters, before clipping.
        clipped_gradient_norm: the same as it was applied.
        learning_rate: of this update.
        seconds: since this process began to train.
    """

    step: int
    loss_nats: float
    gradient_norm: float
    clipped_gradient_norm: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The validation text (or its beginning) was scored.

    Attributes:
        step: updates made so far.
        evaluation: what came out.
        unknown_rate: share of words of the validation text outside the vocabulary, scored as `<unk>`.
        best: whether it is the best so far.
    """

    step: int
    evaluation: Evaluation
    unknown_rate: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class GradientSeen:
    """Whoever watches the gradient through time has measured it; training itself does not.

    Attributes:
        step: updates made so far.
        log10_gradient: by lag, relative to lag 0; None is zero.
        reach: the largest lag whose gradient is at least 1 % of that at lag 0; None where it cannot be told.
        reach_censored: whether that is the longest lag that was looked at.
    """

    step: int
    log10_gradient: tuple[float | None, ...]
    reach: int | None
    reach_censored: bool


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint stands on the disk."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Training is over.

    Attributes:
        step: updates made.
        reason: "budget" or "early" (no better loss for `plan.patience` evaluations).
    """

    step: int
    reason: str


Event = Measuring | Started | Stepped | Evaluated | GradientSeen | Saved | Stopped
Observer = Callable[[Event], None]
