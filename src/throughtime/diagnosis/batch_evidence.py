"""The batch at hand: where time lies in it, what the model makes of it, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.axes import SettledAxes, settled_axes
from throughtime.diagnosis.batches import outputs_of_batches, returned
from throughtime.diagnosis.case import BrokenOff, Case, Missing
from throughtime.diagnosis.losses import constant_loss, first_output, mean_loss, taking_first_output
from throughtime.diagnosis.once import PREFIX, once
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward
from throughtime.measurement.probe import first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["BatchEvidence"]


class BatchEvidence:
    """What is known of a case; every property raises `Missing` where it cannot be had.

    Attributes:
        case: what was handed over; its loss takes the model's first output, whatever the user's takes.
    """

    def __init__(self, case: Case) -> None:
        self.case = replace(case, loss=_of_first_output(case))

    def has(self, name: str) -> bool:
        """Whether the property `name` can be had."""
        return self._why_none(name) is None

    def _why_none(self, name: str) -> str | None:
        """Why the property `name` cannot be had; None where it can."""
        try:
            getattr(self, name)
        except (Missing, InputError) as reason:
            return str(reason)
        return None

    def broken_off(self) -> tuple[str, ...]:
        """What was looked for so far and ended in an error: rules that can do without it do not say so."""
        known = vars(self).items()
        return tuple(
            f"{name.removeprefix(PREFIX)} was not measured: {reason}"
            for name, reason in known
            if isinstance(reason, BrokenOff)
        )

    @once
    def axes(self) -> SettledAxes:
        """Where time and the sequences lie in the inputs."""
        return settled_axes(self.case)

    @once
    def x(self) -> Tensor:
        """The first input tensor, as it lies."""
        x: Tensor | PackedSequence = first_tensor(self.case.inputs)
        if isinstance(x, PackedSequence):
            raise Missing("inputs that are not packed")
        return x

    @once
    def num_steps(self) -> int:
        """T."""
        x = first_tensor(self.case.inputs)
        return len(x.batch_sizes) if isinstance(x, PackedSequence) else int(x.size(self.axes.axes.time))

    @once
    def num_sequences(self) -> int:
        """B."""
        x = first_tensor(self.case.inputs)
        return int(x.batch_sizes[0] if isinstance(x, PackedSequence) else x.size(self.axes.axes.batch))

    @once
    def outputs(self) -> Tensor:
        """The model's first output on the batch, in the mode it is in."""
        return self.outputs_for(self.case.inputs)

    def outputs_for(self, inputs: Any) -> Tensor:
        """The model's first output on other inputs of the same form, without gradients; the model is left as it was.

        Raises:
            InputError: if the model fails.
        """
        return first_output(self.returned_for(inputs)).detach()

    def returned_for(self, inputs: Any) -> Any:
        """All that the model returns, or its first output where it takes no more than one batch at a time.

        Raises:
            InputError: if the model fails.
        """
        try:
            return returned(self.case, inputs)
        except InputError:
            if inputs is not self.case.inputs and self.has("axes"):
                with suppress(InputError):
                    return outputs_of_batches(self.case, inputs, self.axes.axes)
            raise

    @once
    def batch_loss(self) -> float:
        """Mean loss of the batch, in the mode that the model is in."""
        with torch.no_grad():  # a loss may have weights of its own
            return float(mean_loss(self.case.loss, self.outputs, self.case.targets))

    @once
    def validation_loss(self) -> float:
        """Mean loss of the validation batch in eval mode."""
        if self.case.validation is None:
            raise Missing("validation=(inputs, targets) that the model is not trained on")
        inputs, targets = self.case.validation
        with left_as_found(self.case.model), torch.no_grad():
            self.case.model.eval()
            return float(mean_loss(self.case.loss, self.outputs_for(inputs), targets))

    @once
    def chance_loss(self) -> float:
        """The least loss of an output that is the same everywhere, on the batch."""
        found = self.chance_for(self.case.inputs, self.case.targets)
        if not math.isfinite(found):
            raise Missing("a loss that an output which is the same everywhere can be put into")
        return found

    def chance_for(self, inputs: Any, targets: Any) -> float:
        """The least loss of an output that is the same everywhere, on some batch; NaN where it cannot be had."""
        x = first_tensor(inputs)
        sizes = (self.num_steps, self.num_sequences)
        if isinstance(x, Tensor) and x.dim() > 1:
            sizes = (x.size(self.axes.axes.time), x.size(self.axes.axes.batch))
        return constant_loss(self.case.loss, self.outputs_for(inputs), targets, sizes)


def _of_first_output(case: Case) -> Callable[..., Any]:
    try:
        with left_as_found(case.model), torch.no_grad():
            return taking_first_output(case.loss, forward(case.model, case.inputs), case.targets)
    except Exception:
        return case.loss  # whoever needs the outputs says what is wrong
