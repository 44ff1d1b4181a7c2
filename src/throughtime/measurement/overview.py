"""`horizons`: what the data needs, how far the gradient reaches and how much the model uses, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.gradient import measure
from throughtime.measurement.model_check import checked_model
from throughtime.measurement.needs import NeedRecord
from throughtime.measurement.needs import need as measured_need
from throughtime.measurement.probe import first_tensor
from throughtime.measurement.usage import use
from throughtime.storage import Record

__all__ = ["HorizonsRecord", "horizons"]


@dataclass(frozen=True)
class HorizonsRecord(Record):
    """Three horizons on one axis of lags.

    Attributes:
        need: steps that the data needs; None where that cannot be told.
        reach: the largest lag to which the gradient reaches; None likewise, and where the steps of the layer are not
            those of the inputs.
        reach_censored: whether it may reach farther than what was seen.
        use: steps that the model uses; None likewise.
        reasons: what each measurement says, by its name.
        need_censored: whether the data may need more than could be seen in them.
    """

    record_kind: ClassVar[str] = "horizons"
    schema_version: ClassVar[int] = 1

    need: int | None
    reach: int | None
    reach_censored: bool
    use: int | None
    reasons: dict[str, str]
    need_censored: bool = False

    @property
    def censored(self) -> frozenset[str]:
        """Those that may be larger than what was seen, by name."""
        return frozenset(["need"] * self.need_censored + ["reach"] * self.reach_censored)

    @property
    def sentence(self) -> str:
        """All three."""
        needs = "an unknown number of steps"
        if self.need is not None:
            needs = f"{'at least ' * self.need_censored}{self.need} step{'s' * (self.need != 1)}"
        reaches = "an unknown number" if self.reach is None else f"{'at least ' * self.reach_censored}{self.reach}"
        uses = "an unknown number" if self.use is None else str(self.use)
        return f"Your data needs {needs}; the gradient reaches {reaches}; the model uses {uses}."

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"{name}: {reason}" for name, reason in self.reasons.items())])


def horizons(
    model: nn.Module,
    inputs: Any,
    targets: Tensor | None,
    loss: Callable[..., Any],
    *,
    time_dim: int | None = None,
    batch_dim: int | None = None,
    output_dims: tuple[int, int] | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    need: int | NeedRecord | None = None,
    seed: int = 0,
) -> HorizonsRecord:
    """`need`, `measure` and `use` of one model on one batch.

    Args:
        model: as `measure` takes it.
        inputs: what it is called with; of several arguments the first tensor holds the sequences.
        targets: as `need` takes them; of enough sequences (400, say) for it to tell. None for a loss of the outputs
            alone; then what the data needs cannot be told.
        loss: (outputs, targets) -> losses, as `use` takes it; those that are not averaged (`reduction="none"`) are
            quicker.
        time_dim: axis of time in the inputs; that of the recurrent modules unless given.
        batch_dim: axis of the sequences, likewise.
        output_dims: axes of time and of the sequences in the outputs, as for `measure`.
        lengths: of the sequences.
        need: what the data needs, if you know or have measured it (of more data than these, say); else it is measured.
        seed: of all that is drawn.

    Returns:
        The record; `print` it. What one of them cannot tell is None, with the reason.

    Raises:
        InputError: if the model or the loss fail.
        RecipeError: if `need` is below 0.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(30, 300, 1)
        >>> squares = lambda y, t: (y - t).square().mean(-1)
        >>> print(horizons(nn.RNN(1, 1), x, x.roll(9, 0), squares).sentence)
        Your data needs 9 steps; the gradient reaches 1; the model uses 0.
    """
    at_least("need", need if isinstance(need, int) else 0, 0)
    axes, _ = settled_axes(checked_model(model, inputs), inputs, time_dim, batch_dim)
    reasons = {}
    alike: dict[str, Any] = {
        "time_dim": axes.time,
        "batch_dim": axes.batch,
        "output_dims": output_dims,
        "lengths": lengths,
        "seed": seed,
    }
    gradient = measure(model, inputs, targets, loss, **alike)
    reasons["reach"] = "; ".join([str(gradient.profile), *gradient.notes])
    used = use(model, inputs, targets, loss, **alike)
    reach = None if gradient.profile.own_steps else gradient.reach
    reasons["use"] = "; ".join([used.reason, *used.notes])
    steps, censored, reasons["need"] = _needed(inputs, targets, axes.time, lengths, need, seed)
    return HorizonsRecord(steps, reach, gradient.reach_censored, used.use, reasons, censored)


def _needed(
    inputs: Any,
    targets: Tensor | None,
    time_dim: int,
    lengths: Tensor | Sequence[int] | None,
    known: int | NeedRecord | None,
    seed: int,
) -> tuple[int | None, bool, str]:
    """What the data needs, whether it may be more, and why."""
    if isinstance(known, int):
        return known, False, "given"
    try:
        found = known or measured_need(first_tensor(inputs), targets, time_dim=time_dim, lengths=lengths, seed=seed)
    except InputError as error:
        return None, False, f"cannot tell: {error}"
    return found.need, found.need_censored, found.reason
