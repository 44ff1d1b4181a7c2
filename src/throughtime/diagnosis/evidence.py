"""The evidence for a diagnosis: each measurement is made when a rule first asks for it, and once."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.activity import Activity, activities
from throughtime.diagnosis.axes import SettledAxes, settled_axes
from throughtime.diagnosis.batches import outputs_of_batches, returned
from throughtime.diagnosis.case import BrokenOff, Case, Missing
from throughtime.diagnosis.influence import influence
from throughtime.diagnosis.leak import Leak, leak
from throughtime.diagnosis.losses import constant_loss, first_output, mean_loss, taking_first_output
from throughtime.diagnosis.once import PREFIX, once
from throughtime.diagnosis.pooled import of_need
from throughtime.diagnosis.rates import Rates, settled
from throughtime.diagnosis.rehearsal import Rehearsal, rehearse
from throughtime.diagnosis.trials import Trials, trials
from throughtime.errors import InputError
from throughtime.measurement import (
    GradientRecord,
    NeedRecord,
    SpectrumRecord,
    UseRecord,
    measure,
    need,
    spectrum,
    use,
)
from throughtime.measurement.arguments import forward
from throughtime.measurement.blocks import BlockNeed, holds_signal, need_by_blocks, need_from_start
from throughtime.measurement.need_by_variance import nearly_all
from throughtime.measurement.need_pairs import PairNeed, need_by_pairs
from throughtime.measurement.probe import Probe, first_tensor
from throughtime.measurement.spectrum_calls import left_as_found

__all__ = ["NEED_ROWS", "Evidence"]

T = TypeVar("T")

_MANY_TARGETS = 256
"""Positions of a batch."""

_FEWEST_LOSSES = 10
"""Of a watched loop."""

NEED_ROWS = 1200
"""Enough to see what explains a few per cent of a target's variance, in a second."""


class Evidence:
    """What is known of a case; every property raises `Missing` where it cannot be had.

    Attributes:
        case: what was handed over; its loss takes the model's first output, whatever the user's takes.
    """

    def __init__(self, case: Case) -> None:
        self.case = replace(case, loss=_of_first_output(case))

    def has(self, name: str) -> bool:
        """Whether the property `name` can be had."""
        try:
            getattr(self, name)
        except (Missing, InputError):
            return False
        return True

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
        return self._measured(
            lambda: spectrum(self.case.model, self.case.inputs, 4, singular_values=False, seed=self.case.seed)
        )

    @once
    def need_record(self) -> NeedRecord:
        """What the data tell of the steps that are needed, validation data included.

        Ids that tell classes are counted where ridge regression cannot tell: of many kinds of them counts show more.
        """
        found = self._need_record("variance")
        classes = isinstance(self.case.targets, Tensor) and not self.case.targets.is_floating_point()
        if found.need is not None or self.x.is_floating_point() or self.x.dim() > 2 or not classes:
            return found
        by_counts = self._need_record("entropy")
        return found if by_counts.need is None else by_counts

    def _need_record(self, information: Literal["variance", "entropy"]) -> NeedRecord:
        inputs, targets, lengths = of_need(self.case, self.x, self.axes.axes)
        return self._measured(
            lambda: need(
                inputs,
                targets,
                time_dim=self.axes.axes.time,
                lengths=lengths,
                num_rows=NEED_ROWS,
                information=information,
                seed=self.case.seed,
            )
        )

    @once
    def block_need(self) -> BlockNeed | None:
        """The oldest block of lags, or step from the start, that the data shows to matter; None where there is none."""
        inputs, targets, lengths = of_need(self.case, self.x, self.axes.axes)
        time = self.axes.axes.time
        found = self._measured(
            lambda: need_by_blocks(inputs, targets, time_dim=time, lengths=lengths, seed=self.case.seed)
        )
        of_steps = tuple(targets.shape[:2]) == tuple(inputs.shape[:2])
        if found is None and lengths is not None and not of_steps:
            return need_from_start(inputs, targets, lengths, time_dim=time, seed=self.case.seed)
        return found

    @once
    def pair_need(self) -> PairNeed | None:
        """Two lags that tell the target together, where no lag and no block does; None where there are none."""
        inputs, targets, lengths = of_need(self.case, self.x, self.axes.axes)
        time = self.axes.axes.time
        return self._measured(
            lambda: need_by_pairs(inputs, targets, time_dim=time, lengths=lengths, seed=self.case.seed)
        )

    @once
    def holds_signal(self) -> bool:
        """Whether like examples have like targets; for targets of whole sequences."""
        inputs, targets, lengths = of_need(self.case, self.x, self.axes.axes)
        time, batch = self.axes.axes.time, self.axes.axes.batch
        if targets.size(0) != inputs.size(batch) or tuple(targets.shape[:2]) == tuple(inputs.shape[:2]):
            raise Missing("one target for each sequence")
        return holds_signal(inputs, targets, time_dim=time, lengths=lengths, seed=self.case.seed)

    @once
    def need(self) -> int:
        """Steps of memory that the task needs at least: as its user says, or as the data show."""
        if self.case.need is not None:
            return self.case.need
        record = self.need_record if self.has("need_record") else None
        by_lag = None if record is None else record.need
        # Where single lags tell nearly all, a block that goes with the target says nothing beyond them.
        told = record is not None and by_lag is not None and nearly_all(max(record.explained))
        by_block = self.block_need if not told and self.has("block_need") else None
        if by_lag is None and by_block is None:
            if self.has("pair_need") and (pair := self.pair_need) is not None:
                return pair.older
            why = "the data are too few" if record is None else record.reason
            raise Missing(f"need=, the steps of memory that the task needs: {why}")
        return max(by_lag or 0, by_block.lower if by_block else 0)

    @once
    def activities(self) -> tuple[Activity, ...]:
        """Where units and gates of the recurrence stand on their curves."""
        return activities(self)

    @once
    def progress(self) -> float:
        """Share of the chance loss that the model, or its copy after the rehearsal, has got rid of on validation data.

        Chance is the loss of the best constant output; below 0 it is worse than that. A rehearsal, which trains on
        whole sequences, does not count for a loop that cuts them.
        """
        if self.case.validation is None:
            raise Missing("validation=(inputs, targets) that the model is not trained on")
        inputs, targets = self.case.validation
        chance = self.chance_for(inputs, targets)
        if not chance > 0:
            raise Missing("a loss above 0 at chance level")
        losses = [self.validation_loss]
        if self.case.history is None and self.case.window is None and self.has("rehearsal"):
            losses.append(self.rehearsal.validation_after)
        return 1 - min(loss for loss in losses if not math.isnan(loss)) / chance

    @once
    def progress_by_halves(self) -> float:
        """As `progress`, of a copy that is trained on half of the sequences at hand, on the other half."""
        case = self.case
        probe = Probe.of(case.inputs, case.targets if isinstance(case.targets, Tensor) else None, self.axes.axes)
        if case.window is not None or case.lengths is not None or probe.targets is None or probe.num_sequences < 4:
            raise Missing("validation=(inputs, targets) that the model is not trained on")
        rows = torch.arange(probe.num_sequences)
        try:
            half, other = probe.chosen(rows[::2]), probe.chosen(rows[1::2])
            trained = rehearse(
                replace(case, inputs=half.inputs, targets=half.targets, validation=(other.inputs, other.targets))
            )
        except InputError as error:
            raise Missing(f"sequences that can be told apart: {error}") from error
        chance = self.chance_for(other.inputs, other.targets)
        if not chance > 0 or math.isnan(trained.validation_after):
            raise Missing("a loss above 0 at chance level, in a training that stays finite")
        return 1 - min(trained.validation_before, trained.validation_after) / chance

    @once
    def batch_progress(self) -> float:
        """Share of the chance loss that a copy gets rid of on the batch at hand; only of targets for every step.

        So many targets are not learned by heart in a rehearsal. Where the present rate is too high for it to come to
        anything, a tenth of it is tried.
        """
        self._refuse_few_targets()
        if self.case.history is not None or self.case.window is not None:
            raise Missing("whole sequences, and no loop that may cut them")
        if not self.chance_loss > 0:
            raise Missing("a loss above 0 at chance level")
        losses = [settled(self.rehearsal.losses)]
        if not losses[0] < self.rehearsal.losses[0]:
            losses.append(settled(self.rates.losses(0.1)))
        return 1 - min(loss for loss in (*losses, math.inf) if not math.isnan(loss)) / self.chance_loss

    @once
    def loop_progress(self) -> float:
        """Share of the chance loss that a watched loop has got rid of in its own losses; of targets for every step."""
        self._refuse_few_targets()
        history = self.case.history
        losses = [] if history is None else [math.nan if loss is None else loss for loss in history.losses]
        if len(losses) < _FEWEST_LOSSES:
            raise Missing(f"a watch of at least {_FEWEST_LOSSES} steps with their losses (watch.loss)")
        if not self.chance_loss > 0:
            raise Missing("a loss above 0 at chance level")
        return 1 - settled(losses) / self.chance_loss

    def _refuse_few_targets(self) -> None:
        """Few targets are learned by heart, which shows nothing.

        Raises:
            Missing: where there are few.
        """
        x, y = self.x, self.case.targets
        if not isinstance(y, Tensor) or tuple(y.shape[:2]) != tuple(x.shape[:2]) or y.shape[:2].numel() < _MANY_TARGETS:
            raise Missing("targets for every step, of many sequences")

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
    def influence(self) -> float:
        """How much the last outputs change when all inputs before theirs are replaced, see `influence`."""
        return influence(self)

    @once
    def influence_as_wired(self) -> float:
        """The same with weights drawn anew, of an ordinary size: how much of the past can be heard at all."""
        return influence(Evidence(replace(self.case, model=self.trials.redrawn().model)))

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
    def rates(self) -> Rates:
        """What other learning rates do from here, on the batch at hand."""
        return Rates(self.case)

    @staticmethod
    def _measured(measurement: Callable[[], T]) -> T:
        try:
            return measurement()
        except InputError as error:
            raise Missing(f"another model or other data: {error}") from error


def _of_first_output(case: Case) -> Callable[..., Any]:
    try:
        with left_as_found(case.model), torch.no_grad():
            return taking_first_output(case.loss, forward(case.model, case.inputs), case.targets)
    except Exception:
        return case.loss  # whoever needs the outputs says what is wrong
