"""The evidence for a diagnosis: each measurement is made when a rule first asks for it, and once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.axes import SettledAxes, settled_axes
from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.influence import Influence, influence
from throughtime.diagnosis.leak import Leak, leak
from throughtime.diagnosis.losses import constant_loss, first_output, forward, mean_loss
from throughtime.diagnosis.once import once
from throughtime.diagnosis.rehearsal import Rehearsal, rehearse
from throughtime.diagnosis.trials import Trials, trials
from throughtime.errors import InputError
from throughtime.measurement import (
    GradientRecord,
    NeedRecord,
    SpectrumRecord,
    UseRecord,
    WatchRecord,
    measure,
    need,
    spectrum,
    use,
)
from throughtime.measurement.probe import first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["Evidence"]

T = TypeVar("T")


class Evidence:
    """What is known of a case; every property raises `Missing` where it cannot be had.

    Attributes:
        case: what was handed over.
    """

    def __init__(self, case: Case) -> None:
        self.case = case

    def has(self, name: str) -> bool:
        """Whether the property `name` can be had."""
        try:
            getattr(self, name)
        except Missing:
            return False
        return True

    @once
    def axes(self) -> SettledAxes:
        """Where time and the sequences lie in the inputs."""
        return settled_axes(self.case)

    @once
    def x(self) -> Tensor:
        """The first input tensor, as it lies."""
        x = first_tensor(self.case.inputs)
        if isinstance(x, PackedSequence):
            raise Missing("inputs that are not packed")
        return x  # type: ignore[no-any-return]  # first_tensor gives a tensor or a packed sequence

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
        with left_as_found(self.case.model), torch.no_grad():
            try:
                return first_output(forward(self.case.model, inputs)).detach()
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"the model fails on these inputs ({type(error).__name__}: {error}): hand over what it is called "
                    "with, several arguments as a tuple"
                ) from error

    @once
    def batch_loss(self) -> float:
        """Mean loss of the batch, in the mode that the model is in."""
        return float(mean_loss(self.case.loss, self.outputs, self.case.targets))

    @once
    def validation_loss(self) -> float:
        """Mean loss of the validation batch in eval mode."""
        if self.case.validation is None:
            raise Missing("validation=(inputs, targets) that the model is not trained on")
        inputs, targets = self.case.validation
        with left_as_found(self.case.model), torch.no_grad():
            self.case.model.eval()
            return float(mean_loss(self.case.loss, first_output(forward(self.case.model, inputs)), targets))

    @once
    def chance_loss(self) -> float:
        """The least loss of an output that is the same everywhere, on the batch."""
        found = constant_loss(self.case.loss, self.outputs, self.case.targets)
        if not math.isfinite(found):
            raise Missing("a loss that an output which is the same everywhere can be put into")
        return found

    @once
    def gradient(self) -> GradientRecord:
        """The gradient through time, of the model as it is."""
        return self._measured(
            lambda: measure(
                self.case.model,
                self.case.inputs,
                self.case.targets if isinstance(self.case.targets, Tensor) else None,
                self.case.loss if isinstance(self.case.targets, Tensor) else None,
                lengths=self.case.lengths,
                seed=self.case.seed,
                time_dim=self.axes.axes.time,
                batch_dim=self.axes.axes.batch,
            )
        )

    @once
    def spectrum(self) -> SpectrumRecord:
        """Lyapunov exponents, saturation and spectral radius of every recurrent layer."""
        return self._measured(lambda: spectrum(self.case.model, self.case.inputs, 4, seed=self.case.seed))

    @once
    def need_record(self) -> NeedRecord:
        """What the data tell of the steps that are needed, validation data included."""
        inputs, targets = self._pooled()
        whole = tuple(targets.shape[:2]) != tuple(inputs.shape[:2])
        lengths = self.case.lengths if whole and inputs.size(self.axes.axes.batch) == self.num_sequences else None
        return self._measured(
            lambda: need(inputs, targets, time_dim=self.axes.axes.time, lengths=lengths, seed=self.case.seed)
        )

    @once
    def need(self) -> int:
        """Steps of memory that the task needs: as its user says, or as the data show."""
        if self.case.need is not None:
            return self.case.need
        record = self.need_record
        if record.need is None:
            raise Missing(f"need=, the steps of memory that the task needs: {record.reason}")
        return record.need

    @once
    def use(self) -> UseRecord:
        """How far back the model uses its inputs."""
        return self._measured(
            lambda: use(
                self.case.model,
                self.case.inputs,
                self.case.targets,
                self.case.loss,
                lengths=self.case.lengths,
                seed=self.case.seed,
                time_dim=self.axes.axes.time,
                batch_dim=self.axes.axes.batch,
            )
        )

    @once
    def influence(self) -> Influence:
        """How much the outputs change when older inputs are replaced, by lag."""
        return influence(self)

    @once
    def trials(self) -> Trials:
        """A copy of the model in eval mode, to be called with inputs that were tampered with."""
        return trials(self.case, self.axes.axes)

    @once
    def leak(self) -> Leak | None:
        """Where the model is given its target, if it is."""
        return leak(self)

    @once
    def rehearsal(self) -> Rehearsal:
        """A copy, trained for at most 50 steps on the batch at hand."""
        return rehearse(self.case)

    @once
    def history(self) -> WatchRecord:
        """What training does: as it was watched, or else as the rehearsal shows it."""
        return self.case.history if self.case.history is not None else self.rehearsal.history

    def _pooled(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the batch, with those of the validation batch where they have the same form."""
        x, y = self.x, self.case.targets
        if not isinstance(y, Tensor):
            raise Missing("targets that are a tensor")
        if self.case.validation is not None:
            more, targets = self.case.validation
            more = first_tensor(more)
            batch = self.axes.axes.batch
            of_targets = batch if y.dim() > 1 and tuple(y.shape[:2]) == tuple(x.shape[:2]) else 0
            if isinstance(more, Tensor) and _same_but(more, x, batch) and _same_but(targets, y, of_targets):
                return torch.cat([x, more], batch), torch.cat([y, targets], of_targets)
        return x, y

    @staticmethod
    def _measured(measurement: Callable[[], T]) -> T:
        try:
            return measurement()
        except InputError as error:
            raise Missing(f"another model or other data: {error}") from error


def _same_but(one: Any, other: Tensor, axis: int) -> bool:
    if not isinstance(one, Tensor) or one.dim() != other.dim() or one.dtype != other.dtype:
        return False
    return all(a == b for at, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if at != axis)
