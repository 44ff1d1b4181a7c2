"""A state that is carried from batch to batch against one that is reset: two trainings, side by side.

Batches of noise do not tell whether they go on from one another. What a training makes of a state that they share does:
where they go on it is of use or does no harm, where they do not it is noise that begins every sequence.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.rehearsal import Copies, as_found, copies_of, step
from throughtime.errors import InputError
from throughtime.measurement.arguments import forward, own
from throughtime.measurement.watch_carry import own_tensors

__all__ = ["StateTrial", "state_trial"]

MOST_STEPS, FEWEST_STEPS = 48, 16
MOST_SECONDS = 8.0
SDS = 4.0
SHARE = 0.1
"""Of the loss, what the carried state costs: a start from another state than the usual one costs less for a while."""


@dataclass(frozen=True)
class StateTrial:
    """What came of it.

    Attributes:
        carried: mean loss of the second half of the steps, the state going on from batch to batch.
        reset: the same where each batch begins from a state of zeros.
        error: standard error of the difference.
        num_steps: that either made, all of them on the same batches.
    """

    carried: float
    reset: float
    error: float
    num_steps: int

    @property
    def hurts(self) -> bool:
        """Whether the carried state does harm, beyond chance and by a good part of the loss."""
        gain = self.carried - self.reset
        return gain > SDS * self.error and gain > SHARE * abs(self.carried)


def state_trial(case: Case, clip: float | None = None) -> StateTrial:
    """Train two copies from here on what the watched loop trained on, in its order.

    Args:
        case: with the batches of its loop.
        clip: largest norm of the gradient, as the loop has it; None does not clip.

    Raises:
        Missing: without such batches, or where a copy cannot be trained on them.
    """
    batches = _of_one_form(case)
    if len(batches) < FEWEST_STEPS or not case.optimizers:
        raise Missing(f"a watch of {FEWEST_STEPS} steps with their targets (watch.loss), and an optimizer")
    try:
        with as_found(case):
            losses = _losses(copies_of(case), copies_of(case), batches, clip, case.seed)
    except InputError as error:
        raise Missing(f"a model that can be trained on the batches of its loop: {error}") from error
    if len(losses) < FEWEST_STEPS or not all(math.isfinite(loss) for pair in losses for loss in pair):
        raise Missing(f"a model that makes {FEWEST_STEPS} steps within some seconds, with finite losses")
    later = losses[len(losses) // 2 :]
    carried, reset = (statistics.fmean(each) for each in zip(*later, strict=True))
    gains = [one - other for one, other in later]
    return StateTrial(carried, reset, statistics.stdev(gains) / math.sqrt(len(gains)), len(losses))


def _of_one_form(case: Case) -> list[tuple[Tensor, Tensor]]:
    """The batches up to the first one that is not of the form of the batch at hand, as at the end of an epoch.

    Targets may have been handed to the loss with their axes joined; that these lie as those at hand do is known where
    the batch at hand is one of them.
    """
    x, y = case.inputs, case.targets
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return []
    at_hand = [wanted for given, wanted in case.batches if given.shape == x.shape and torch.equal(given, x)]
    joined = any(wanted.numel() == y.numel() and torch.equal(wanted.reshape(y.shape), y) for wanted in at_hand)
    found = []
    for given, wanted in case.batches[:MOST_STEPS]:
        fits = wanted.shape == y.shape or (joined and wanted.numel() == y.numel())
        if given.shape != x.shape or not fits:
            break
        found.append((given, wanted.reshape(y.shape)))
    return found


def _losses(
    carrying: Copies, resetting: Copies, batches: list[tuple[Tensor, Tensor]], clip: float | None, seed: int
) -> list[tuple[float, float]]:
    """Of each step, before its update: with the state carried, and with it reset."""
    kept = _kept_names(resetting.model, batches[0][0])
    found, begin = [], time.perf_counter()
    for number, batch in enumerate(batches):
        _reset(resetting.model, kept)
        pair = []
        for patient in (carrying, resetting):
            torch.manual_seed(seed + number)
            pair.append(step(patient, *batch, clip))
        found.append((pair[0], pair[1]))
        if time.perf_counter() - begin > MOST_SECONDS:
            break
    return found


def _kept_names(model: nn.Module, x: Tensor) -> set[str]:
    """Of the tensors of the batch's size that a call leaves changed in the model."""
    before = {name: (tensor, tensor._version) for name, tensor in own_tensors(model)}
    with torch.no_grad():
        forward(model, own(x))
    return {
        name for name, now in own_tensors(model) if _is_of_rows(now, x) and not _is_as_it_was(now, before.get(name))
    }


def _is_of_rows(tensor: Tensor, x: Tensor) -> bool:
    return any(size in x.shape[:2] for size in tensor.shape[:2])


def _is_as_it_was(tensor: Tensor, before: tuple[Tensor, int] | None) -> bool:
    return before is not None and before[0] is tensor and before[1] == tensor._version


def _reset(model: nn.Module, names: set[str]) -> None:
    with torch.no_grad():
        for name, tensor in own_tensors(model):
            if name in names:
                tensor.zero_()
