"""The evidence for a diagnosis: each measurement is made when a rule first asks for it, and once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from throughtime.diagnosis.activity import Activity, activities
from throughtime.diagnosis.batch_evidence import BatchEvidence
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.influence import influence
from throughtime.diagnosis.leak import Leak, leak
from throughtime.diagnosis.once import once
from throughtime.diagnosis.pooled import Examples, of_need
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
from throughtime.measurement.blocks import BlockNeed, holds_signal, need_by_blocks, need_from_start
from throughtime.measurement.need_by_variance import nearly_all
from throughtime.measurement.need_pairs import PairNeed, need_by_pairs
from throughtime.measurement.probe import Probe

__all__ = ["NEED_ROWS", "Evidence"]

T = TypeVar("T")

_MANY_TARGETS = 256
"""Positions of a batch."""

_FEWEST_LOSSES = 10
"""Of a watched loop."""

NEED_ROWS = 1200
"""Enough to see what explains a few per cent of a target's variance, in a second."""


class Evidence(BatchEvidence):
    """What is known of a case; every property raises `Missing` where it cannot be had."""

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
    def examples(self) -> Examples:
        """What the need is measured on: the batch at hand, validation data, and further batches."""
        return of_need(self.case, self.x, self.axes.axes)

    @once
    def need_record(self) -> NeedRecord:
        """What the data tell of the steps that are needed, validation data and further batches included.

        Ids that tell classes are counted where ridge regression cannot tell: of many kinds of them counts show more.
        """
        found = self._need_record("variance")
        classes = isinstance(self.case.targets, Tensor) and not self.case.targets.is_floating_point()
        if found.need is not None or self.x.is_floating_point() or self.x.dim() > 2 or not classes:
            return found
        by_counts = self._need_record("entropy")
        return found if by_counts.need is None else by_counts

    def _need_record(self, information: Literal["variance", "entropy"]) -> NeedRecord:
        inputs, targets, lengths = self.examples
        return self._measured(
            lambda: need(
                inputs,
                targets,
                time_dim=self.axes.axes.time,
                lengths=lengths,
                num_rows=NEED_ROWS,
                information=information,
                seed=self.case.seed,
            ),
            wanted="",
        )

    @once
    def block_need(self) -> BlockNeed | None:
        """The oldest block of lags, or step from the start, that the data shows to matter; None where there is none."""
        inputs, targets, lengths = self.examples
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
        inputs, targets, lengths = self.examples
        time = self.axes.axes.time
        return self._measured(
            lambda: need_by_pairs(inputs, targets, time_dim=time, lengths=lengths, seed=self.case.seed)
        )

    @once
    def holds_signal(self) -> bool:
        """Whether like examples have like targets; for targets of whole sequences."""
        inputs, targets, lengths = self.examples
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
            why = self._why_none("need_record") if record is None else record.reason
            raise Missing(f"need=, the steps of memory that the task needs, or more=, batches that show it: {why}")
        return max(by_lag or 0, by_block.lower if by_block else 0)

    @property
    def need_may_be_longer(self) -> bool:
        """Whether the need is only the least that the data could show: of a block, or of few rows."""
        if self.case.need is not None or not self.has("need"):
            return False
        record = self.need_record if self.has("need_record") else None
        return record is None or record.need is None or record.need < self.need or record.need_censored

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
    def _measured(measurement: Callable[[], T], wanted: str = "another model or other data: ") -> T:
        try:
            return measurement()
        except InputError as error:
            raise Missing(f"{wanted}{error}") from error
