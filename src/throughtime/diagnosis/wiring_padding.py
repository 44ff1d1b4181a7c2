"""`padding-read`: outputs or loss depend on the steps that only fill a short sequence up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.counted import counted_gradient
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.learning import learns
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.told_padding import filled_targets, is_heard, read_after_end, told_lengths
from throughtime.diagnosis.trials import SEEN, Trials, change
from throughtime.measurement.probe import first_tensor

__all__ = ["RULES"]

_SEVERE_OUTPUT = 0.1
"""Of the change that replacing everything makes: a two-sided reader that begins in a little padding stays below."""
_EVERYWHERE = 0.25
"""Of the change of outputs of single steps, root mean square, the median one: where all of them hear the padding alike
that is 0.5 and more. A two-sided reader that begins in it hears it in a few steps next to it, more so once trained."""
_MOST_OF_LOSS = 0.5
"""Of the loss's gradient, where nobody said that these steps do not count: some have a model foretell its padding."""
_DROWNED = 0.1
"""Of how outputs of padded sequences differ, what is left after the padding: an average over all steps leaves more."""
_SEVERE_LOSS = 0.05
"""Of the loss's gradient: less is pulled aside by padding less than by the noise of a batch."""


def padding_read(evidence: Evidence) -> Finding | None:
    """What lies beyond each length is replaced; nothing that the loss looks at may change."""
    if isinstance(first_tensor(evidence.case.inputs), PackedSequence):
        return None
    trial = evidence.trials
    if trial.lengths is None:
        if evidence.case.lengths is not None:
            return None
        return _as_embedding_tells(trial)
    padding = ~trial.valid()
    if _padded_in_front(trial):
        return None
    share = float(padding.float().mean())
    weights = counted_gradient(trial)
    by_loss = _of_loss(trial, weights, padding)
    by_output, median = _of_outputs(trial, weights, padding)
    if by_output > SEEN and not is_heard(trial, trial.valid().sum(0)):
        by_output = 0.0  # it knows padding by what stands there, of which what was put in its place is none
    if by_loss <= SEEN and by_output <= SEEN:
        return None
    told = []
    if by_output > SEEN:
        told.append(
            f"replacing the padding, {share:.0%} of all steps, changes the outputs that count by {by_output:.2g} of "
            "what replacing everything does"
        )
    if by_loss > SEEN:
        told.append(f"{by_loss:.0%} of the loss's gradient falls on outputs of padded steps ({share:.0%} of all steps)")
    severe = (by_output >= _SEVERE_OUTPUT and median >= _EVERYWHERE) or by_loss >= _SEVERE_LOSS
    wired = None if severe or by_output <= SEEN else _wired(evidence, padding)
    if wired is not None:
        told.append(f"with weights of an ordinary size that is {wired:.2g}, and the watched loop has hardly learned")
        severe = True
    text = "; and ".join(told)
    return Finding(
        "padding-read",
        "error" if severe else "warning",
        0.95 if severe else 0.7,
        text[0].upper() + text[1:],
        {
            "padded_share": share,
            "output_effect": by_output,
            "median_effect": median,
            "loss_share": by_loss,
            "wired_effect": wired,
        },
    )


def _wired(evidence: Evidence, padding: Tensor) -> float | None:
    """The effect on outputs with weights drawn anew, where that is severe and a watched loop has hardly learned.

    A training that finds no use for words behind which there is padding turns deaf to what stands in its place.
    """
    if evidence.case.history is None or learns(evidence):
        return None
    trial = evidence.trials.redrawn()
    by_output, median = _of_outputs(trial, counted_gradient(trial), padding)
    return by_output if by_output >= _SEVERE_OUTPUT and median >= _EVERYWHERE else None


def _as_embedding_tells(trial: Trials) -> Finding | None:
    """Lengths that an embedding's padding_idx tells; what padding changes is an error where it changes nearly all."""
    lengths = told_lengths(trial)
    if lengths is None:
        raise Missing("lengths= of the sequences, if any of them are padded")
    padding = torch.arange(trial.sizes[0]).unsqueeze(1) >= lengths
    share = float(padding.float().mean())
    if filled_targets(trial, padding):
        by_loss = _of_loss(trial, counted_gradient(trial), padding)
        if by_loss < _SEVERE_LOSS:
            return None
        return Finding(
            "padding-read",
            "error" if by_loss >= _MOST_OF_LOSS else "warning",
            0.8,
            f"{by_loss:.0%} of the loss's gradient falls on outputs of padded steps, which by the padding_idx of the "
            f"embedding are {share:.0%} of all steps",
            {"padded_share": share, "output_effect": None, "loss_share": by_loss, "share_left": None},
        )
    read = read_after_end(trial, lengths)
    if read.effect < _SEVERE_OUTPUT:
        return None
    return Finding(
        "padding-read",
        "error" if read.left < _DROWNED else "warning",
        0.9 if read.left < _DROWNED else 0.6,
        f"By the padding_idx of the embedding {share:.0%} of all steps are padding; without it the outputs of padded "
        f"sequences are others by {read.effect:.2g} of how they differ, and after it {read.left:.2g} of their "
        "differences are left",
        {"padded_share": share, "output_effect": read.effect, "loss_share": None, "share_left": read.left},
    )


def _padded_in_front(trial: Trials) -> bool:
    """Whether the steps that never change stand before the sequences, and what is beyond each length is data."""
    x = trial.time_first(trial.aligned()[0])
    num_steps = trial.sizes[0]
    lengths = trial.valid().sum(0)
    front = torch.arange(num_steps).unsqueeze(1) < num_steps - lengths
    return _is_constant(x, front) and not _is_constant(x, ~trial.valid())


def _is_constant(x: Tensor, where: Tensor) -> bool:
    values = x[where.to(x.device)]
    return bool((values == values[:1]).all())


def _of_loss(trial: Trials, weights: Tensor | None, padding: Tensor) -> float:
    """The share of the loss's gradient on outputs of padded steps; 0 where outputs have no time."""
    if weights is None or trial.probe.targets is None:
        return 0.0
    shares = []
    for moved in trial.layouts(weights):
        size = moved.double().abs().sum(-1).cpu()
        shares.append(float(size[padding].sum() / size.sum().clamp(min=1e-300)))
    return min(shares, default=0.0)


def _of_outputs(trial: Trials, weights: Tensor | None, padding: Tensor) -> tuple[float, float]:
    """How much the outputs that count change with the padding, relative to how they change with everything.

    And the median change of those of padded sequences, relative to their root mean square; 1 of whole sequences'.
    """
    everything, now = trial.everything(), trial.outputs(trial.replaced(padding))
    valid = ~padding
    by_step = []
    for intact, other, whole in zip(*map(trial.layouts, (trial.intact, now, everything)), strict=True):
        counts = valid & _counted(trial, weights, intact)
        moved = change(intact, other)
        told = padding.any(0) & (moved * counts > 0).any(0)  # what was put in place of padding may be padding too
        by_step.append((_ratio(moved[counts], change(intact, whole)[counts]), _median(moved[counts & told])))
    if by_step:
        return min(by_step)
    shares, short = [], padding.any(0)
    for intact, other, whole in zip(*map(trial.by_sequence, (trial.intact, now, everything)), strict=True):
        shares.append(_ratio(change(intact, other)[short], change(intact, whole)[short]))
    if not shares:
        raise Missing(f"outputs with an axis of {trial.sizes[1]} sequences")
    return min(shares), 1.0


def _median(moved: Tensor) -> float:
    """Relative to the root mean square; 1 of nothing."""
    size = float(moved.square().mean().sqrt()) if moved.numel() else 0.0
    return float(moved.median()) / size if size else 1.0


def _counted(trial: Trials, weights: Tensor | None, like: Tensor) -> Tensor:
    """(T, B) where the loss looks; everywhere where it is not known."""
    everywhere = torch.ones(trial.sizes, dtype=torch.bool)
    if weights is None:
        return everywhere
    for moved in trial.layouts(weights):
        if moved.shape == like.shape:
            counts = (moved != 0).any(-1).cpu()
            return counts if bool(counts.any()) else everywhere
    return everywhere


def _ratio(part: Tensor, whole: Tensor) -> float:
    if not part.numel() or not bool((whole > 0).any()):
        return 0.0
    return float(part.square().mean().sqrt() / whole.square().mean().sqrt())


RULES = (Rule("padding-read", padding_read),)
