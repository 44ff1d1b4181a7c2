"""The batches that a script was seen with before the last one: more data, and what lies beyond the ends of windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from throughtime.diagnosis.axes import settled_axes
from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.evidence import NEED_ROWS
from throughtime.errors import InputError
from throughtime.measurement import need
from throughtime.measurement.probe import Axes
from throughtime.workflow.caught_loss import CaughtLoss, form_between

__all__ = ["EarlierBatches"]

_MOST_NUMBERS = 1 << 24
"""Of all batches that are kept, together."""
_MOST_SEQUENCES = 512
"""Of earlier batches beside the last one: enough to see a dependence that explains some per cent."""
_FEWEST_WINDOWS = 8
_WINDOWS, _FEWEST_LAGS, _MOST_LAGS = 4, 64, 256
"""So many windows back a need is looked for, and within these bounds: each lag takes its time."""
_TIMES_OVER = 3
"""So often a script has to have gone over its examples for it to know some by heart: then others are validation."""
_NEARLY_ALL = 0.9
"""Of what all lags tell, told by those within a window: then the window is not what keeps a model from learning.

Need counts the last hundredth, as the tenth repeat of a noisy pattern does.
"""


@dataclass(frozen=True)
class _Batch:
    inputs: Any
    x: Tensor
    targets: Tensor
    outputs: Tensor  # without numbers: its shape says how the targets lie


@dataclass
class EarlierBatches:
    """Batches as a script's model and its loss were given them, the last one among them.

    Attributes:
        kept: those that it trained on.
        evaluated: those of its last evaluation, with their targets by example and step.
    """

    kept: list[_Batch] = field(default_factory=list)
    evaluated: list[_Batch] = field(default_factory=list)
    _numbers: int = 0
    _trained_since: bool = False

    def keep(self, inputs: Any, outputs: Tensor, loss: CaughtLoss) -> None:
        """One more to train on, unless it is too large."""
        self._trained_since = True
        x = _data_of(inputs)
        if not isinstance(x, Tensor) or self._numbers + x.numel() + loss.targets.numel() > _MOST_NUMBERS:
            return
        self._numbers += x.numel() + loss.targets.numel()
        self.kept.append(_batch(inputs, x, outputs, loss.targets))

    def keep_evaluated(self, inputs: Any, outputs: Tensor, loss: CaughtLoss) -> None:
        """One more of an evaluation, unless there are enough; the first after a training step begins another."""
        if self._trained_since:
            self.evaluated, self._trained_since = [], False
        x = _data_of(inputs)
        form = form_between(outputs, loss.outputs, loss.targets)
        if form is None or not isinstance(x, Tensor):
            return
        if sum(batch.x.numel() for batch in self.evaluated) + x.numel() <= _MOST_NUMBERS:
            self.evaluated.append(_batch(inputs, x, outputs, form.targets_from(loss.targets, outputs)))

    def alike(self, x: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(inputs, targets) of those before the last one that have these shapes, each different one once."""
        new: list[tuple[Tensor, Tensor]] = []
        for batch in reversed(self.kept[:-1]):
            same = batch.x.shape == x.shape and batch.targets.shape == targets.shape
            if same and not any(torch.equal(batch.x, other) for other in (x, *(each for each, _ in new))):
                new.append((batch.x, batch.targets))
            if len(new) == _MOST_SEQUENCES:
                break
        return new

    def told(self, given: dict[str, Any], loss: CaughtLoss, outputs: Tensor) -> dict[str, Any]:
        """What they add to the arguments of a diagnosis.

        Where the model is called with more than the data, such as a state, and the batches laid end to end show a need
        that is longer than one, and lags beyond one tell a tenth of it, that is the need, and one is the window. Of the
        data alone they are more examples, as a validation batch: the model has been trained on them, so it is hardly
        worse there than on new ones. Where it has gone over them several times it may be, and then those that the
        script evaluates it on take their place.
        """
        form = form_between(outputs, loss.outputs, loss.targets)
        if form is None or len(self.kept) < 2:
            return {}
        try:
            axes = settled_axes(Case(**given)).axes
        except (Missing, InputError):
            return {}
        last = self.kept[-1]
        same = [b for b in self.kept if b.x.shape == last.x.shape and b.outputs.shape == last.outputs.shape]
        targets = [form.targets_from(batch.targets, batch.outputs) for batch in same]
        inputs = given["inputs"]
        if isinstance(inputs, Tensor) or _is_data(inputs, last.x):
            # With lengths or a second series, say: batches of whole sequences do not go on from one another.
            others = self._evaluated(axes) if _gone_over(same, axes.batch) else {}
            return others or self._examples(same, targets, axes)
        return self._windows(same, targets, axes)

    @staticmethod
    def _windows(batches: list[_Batch], targets: list[Tensor], axes: Axes) -> dict[str, Any]:
        """The window and the need, where the need is longer."""
        window = batches[-1].x.size(axes.time)
        each_step = all(tuple(y.shape[:2]) == tuple(b.x.shape[:2]) for b, y in zip(batches, targets, strict=True))
        if not each_step or len(batches) < _FEWEST_WINDOWS:
            return {}
        try:
            inputs, wanted = torch.cat([batch.x for batch in batches], axes.time), torch.cat(targets, axes.time)
            asked = partial(need, inputs, wanted, time_dim=axes.time, num_rows=NEED_ROWS, information="variance")
            found = asked(max_lag=min(max(_WINDOWS * window, _FEWEST_LAGS), _MOST_LAGS))
            if found.need is None or found.need < window:
                return {}
            # Of lags that say the same, older ones may have been chosen: what newer ones say is asked by itself.
            within = asked(max_lag=max(1, window - 1))
        except InputError:
            return {}
        if max(within.explained, default=0.0) >= _NEARLY_ALL * max(found.explained):
            return {}
        return {"window": window, "need": found.need}

    @staticmethod
    def _examples(batches: list[_Batch], targets: list[Tensor], axes: Axes) -> dict[str, Any]:
        """A validation batch of those that differ from the last one and from one another."""
        new: list[tuple[_Batch, Tensor]] = []
        for batch, target in zip(reversed(batches[:-1]), reversed(targets[:-1]), strict=True):
            others = [batches[-1].x, *(other.x for other, _ in new)]
            if target.shape == targets[-1].shape and not any(torch.equal(batch.x, x) for x in others):
                new.append((batch, target))
            if len(new) * batch.x.size(axes.batch) >= _MOST_SEQUENCES:
                break
        if not new:
            return {}
        return _as_validation([batch.inputs for batch, _ in new], [y for _, y in new], batches[-1].x, axes)

    def _evaluated(self, axes: Axes) -> dict[str, Any]:
        """A validation batch of those of the last evaluation that have the shape of its first."""
        if not self.evaluated:
            return {}
        first = self.evaluated[0]
        same = [b for b in self.evaluated if b.x.shape == first.x.shape and b.targets.shape == first.targets.shape]
        same = same[: max(1, _MOST_SEQUENCES // first.x.size(axes.batch))]
        return _as_validation([b.inputs for b in same], [b.targets for b in same], first.x, axes)


def _data_of(inputs: Any) -> Any:
    """What a model is called with first."""
    return inputs[0] if isinstance(inputs, tuple) and inputs else inputs


def _batch(inputs: Any, x: Tensor, outputs: Tensor, targets: Tensor) -> _Batch:
    """With copies of what may be written over."""
    own = x.detach().clone()
    shape = torch.empty(outputs.shape, device="meta")
    return _Batch(own if inputs is x else inputs, own, targets.clone(), shape)


def _as_validation(inputs: list[Any], targets: list[Tensor], x: Tensor, axes: Axes) -> dict[str, Any]:
    """The argument of a diagnosis; empty where the inputs cannot be joined. Each of them has the form of x."""
    together = _joined(inputs, x, axes.batch)
    of_targets = axes.batch if tuple(targets[0].shape[:2]) == tuple(x.shape[:2]) else 0
    return {} if together is None else {"validation": (together, torch.cat(targets, of_targets))}


def _gone_over(batches: list[_Batch], axis: int) -> bool:
    """Whether the sequences of all batches are few different ones, again and again."""
    rows = torch.cat([batch.x for batch in batches], axis).movedim(axis, 0).flatten(1)
    return _TIMES_OVER * len(torch.unique(rows, dim=0)) <= len(rows)


def _is_data(inputs: Any, x: Tensor) -> bool:
    """Whether a model is called with something beside its data that no state is: integers, or what lies alike."""
    beside = inputs[1:] if isinstance(inputs, tuple) else ()
    return any(
        not (each.is_floating_point() or each.is_complex()) or each.shape[:2] == x.shape[:2]
        if isinstance(each, Tensor)
        else isinstance(each, list) and bool(each) and all(isinstance(number, int) for number in each)
        for each in beside
    )


def _joined(inputs: list[Any], x: Tensor, axis: int) -> Any:
    """One batch of several: tensors that lie as x does along its axis, numbers of the sequences end to end.

    None of inputs that hold anything else.
    """
    first = inputs[0]
    if isinstance(first, Tensor):
        if first.dim() > 1 and first.shape[:2] != x.shape[:2]:
            return None
        return torch.cat(inputs, axis if first.dim() > 1 else 0) if first.dim() else None
    if isinstance(first, list):
        return [each for part in inputs for each in part]
    if not isinstance(first, tuple):
        return None
    parts = [_joined(list(part), x, axis) for part in zip(*inputs, strict=True)]
    return None if any(part is None for part in parts) else tuple(parts)
