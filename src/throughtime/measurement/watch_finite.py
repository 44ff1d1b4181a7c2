"""The first number of a training that is not finite: when it was seen, and where it began."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.measurement.loss_log import LossLog
from throughtime.measurement.non_finite import bad_parameter
from throughtime.measurement.watch_probe import Batch
from throughtime.measurement.watch_sample import SampledStep

__all__ = ["FirstNonFinite"]


class FirstNonFinite:
    """Looks until it has found one.

    Args:
        model: for whose copy the batch is run again.
        names: of its parameters, in order.
        parameters: these.
        note: told what a reader should know.

    Attributes:
        found: as the record has it; None as long as all is finite.
        last_finite: the last step at which everything was looked at, and was finite.
    """

    def __init__(
        self, model: nn.Module, names: Sequence[str], parameters: Sequence[Tensor], note: Callable[[str], None]
    ) -> None:
        self._model, self._names, self._parameters, self._note = model, names, parameters, note
        self.found: dict[str, Any] | None = None
        self.last_finite = 0

    def look_at_losses(self, losses: LossLog) -> None:
        """At all that can be read without asking what the current step's is."""
        losses.settle()
        if losses.non_finite_step is not None:
            self._tell(losses.non_finite_step, "loss", None)

    def look_at_gradients(
        self, step: int, sample: SampledStep, optimizer: Optimizer, batch: Batch | None, *, scaled: bool
    ) -> None:
        """Before an optimizer steps.

        Args:
            step: that is being made.
            sample: of it.
            optimizer: that steps.
            batch: of its last forward pass.
            scaled: whether a scaler multiplies the loss: what overflows before it looks is its own business.
        """
        if self.found is not None:
            return
        overflowed = getattr(optimizer, "found_inf", None)
        if overflowed is not None and float(overflowed) > 0:
            return  # the scaler's trial of a scale: the optimizer is going to leave this step out
        # Clipping spreads a NaN over all gradients: where it began shows before clipping alone.
        bad = ([] if scaled else _not_finite(sample.gradient)) or _not_finite(sample.seen)
        if bad:
            # Backwards through the model NaN spreads to what comes before: the last one is nearest to where it began.
            self.trace(step, batch, gradient=self._names[bad[-1]])

    def look_at_weights(self, step: int, sample: SampledStep) -> None:
        """After an optimizer stepped."""
        bad = _not_finite(sample.update)
        if bad:
            self._tell(step, "weight", self._names[bad[0]])

    def trace(
        self, step: int, batch: Batch | None, *, gradient: str | None = None, targets: Tensor | None = None
    ) -> None:
        """Name where it began, from what is computed first to what is computed last; without `gradient`, a loss."""
        if self.found is not None:
            return
        weight = bad_parameter(zip(self._names, self._parameters, strict=True))
        if weight is not None:
            self._tell(step, "weight", weight)
            return
        place: tuple[str, str | None] | None = None
        try:
            place = None if batch is None else batch.bad_activation(self._model)
        except Exception as error:
            self._note(f"the batch that gave numbers that are not finite could not be run again: {error}")
        if place is None and bad_parameter([("targets", targets)]) is not None:
            place = ("target", None)
        where, name = place or ("loss" if gradient is None else "gradient", gradient)
        self._tell(step, where, name)

    def _tell(self, step: int, where: str, name: str | None) -> None:
        if self.found is None:
            last = min(self.last_finite, step - 1)
            self.found = {"step": step, "where": where, "name": name, "last_finite_step": last}


def _not_finite(each: Mapping[int, float]) -> list[int]:
    return [index for index, norm in sorted(each.items()) if not math.isfinite(norm)]
