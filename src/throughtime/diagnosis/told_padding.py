"""Padding that a model knows by what stands there, an id say, whether or not it is handed the lengths too.

Replacing it by others, as is done where lengths are known, tells other lengths to a model that finds them so. Therefore
a short sequence is cut to its own length: a model that does not read padding gives the same for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.trials import SEEN, Trials, change

__all__ = ["ReadAfterEnd", "filled_targets", "is_heard", "padding_id", "read_after_end", "told_lengths"]

_FEWEST_SHORT = 4
"""Padded sequences: how their outputs differ has to be seen."""
_MOST_LENGTHS = 8
"""Of different ones that are tried."""


@dataclass(frozen=True)
class ReadAfterEnd:
    """What the padding does to the outputs of padded sequences.

    Attributes:
        effect: change of their outputs when it is cut off, relative to how these outputs differ then.
        left: of how far a sequence's outputs are from the others' mean without padding, what is left with it; at the
            median sequence.
    """

    effect: float
    left: float


def told_lengths(trial: Trials) -> Tensor | None:
    """(B,) of sequences that end in the id which an embedding that reads them calls padding.

    None where none does, or where that id stands between others too: it may mean something then.
    """
    aligned = trial.aligned()
    ids = trial.time_first(aligned[0]) if aligned else None
    if ids is None or ids.dim() != 2 or ids.is_floating_point():
        return None
    padding = padding_id(trial, ids)
    if padding is None:
        return None
    words = (ids != padding).cpu()
    lengths = (words * torch.arange(1, words.size(0) + 1).unsqueeze(1)).amax(0)
    ends = bool((words.sum(0) == lengths).all()) and 1 <= int(lengths.min()) < words.size(0)
    return lengths if ends else None


def padding_id(trial: Trials, ids: Tensor) -> int | None:
    """The `padding_idx` of the embeddings that are given these ids, all at once or those of a step."""
    found: set[int] = set()

    def see(module: nn.Module, arguments: tuple[object, ...]) -> None:
        given = arguments[0] if arguments else None
        if isinstance(given, Tensor) and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            whole = given.shape in (ids.shape, ids.t().shape) and (_equal(given, ids) or _equal(given, ids.t()))
            if whole or any(_equal(given.squeeze(), step) for step in ids):
                found.add(module.padding_idx)

    handles = [m.register_forward_pre_hook(see) for m in trial.model.modules() if isinstance(m, nn.Embedding)]
    try:
        trial.outputs(trial.probe.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found.pop() if len(found) == 1 else None


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def read_after_end(trial: Trials, lengths: Tensor) -> ReadAfterEnd:
    """For outputs of whole sequences, of which each may depend on the steps after its sequence's end.

    Raises:
        Missing: if too few are padded, if the outputs are not of whole sequences, or if the model refuses shorter ones.
    """
    if trial.layouts(trial.intact):
        raise Missing("lengths= of the sequences: the outputs are of single steps")
    kinds = _short_lengths(trial, lengths)
    rows = [(lengths == length).nonzero().squeeze(1) for length in kinds]
    if sum(map(len, rows)) < _FEWEST_SHORT:
        raise Missing(f"at least {_FEWEST_SHORT} padded sequences in a batch")
    whole = trial.by_sequence(trial.intact)
    cut = [trial.by_sequence(trial.outputs(trial.first_steps(int(length)))) for length in kinds]
    if not whole or any(len(each) != len(whole) for each in cut):
        raise Missing(f"outputs with an axis of {trial.sizes[1]} sequences")
    ways = []
    for way, outputs in enumerate(whole):
        alone = torch.cat([each[way][of_length] for each, of_length in zip(cut, rows, strict=True)]).double()
        padded = torch.cat([outputs[of_length] for of_length in rows]).double()
        ways.append(_compared(alone, padded))
    return min(ways, key=lambda read: read.effect)


def is_heard(trial: Trials, lengths: Tensor) -> bool:
    """Whether short sequences that are cut to their own length get other outputs; so it is taken where none can be cut.

    Args:
        trial: of the model.
        lengths: (B,).
    """
    everything, of_steps = trial.everything(), bool(trial.layouts(trial.intact))
    for kind in _short_lengths(trial, lengths):
        length, rows = int(kind), lengths == kind
        try:
            cut = trial.outputs(trial.first_steps(length))
        except Missing:  # it takes sequences of one length only
            return True
        if of_steps:
            whole, other = ([way[:length, rows] for way in trial.layouts(each)] for each in (trial.intact, everything))
            alone = [way[:, rows] for way in trial.layouts(cut, length)]
        else:
            whole, other, alone = (
                [way[rows] for way in trial.by_sequence(each)] for each in (trial.intact, everything, cut)
            )
        triples = zip(whole, other, alone, strict=False)  # the likeliest first; of fewer steps more ways may fit
        ways = [(one, another, cut_off) for one, another, cut_off in triples if one.shape == cut_off.shape]
        if all(_moved(one, cut_off) > SEEN * _moved(one, another) for one, another, cut_off in ways):
            return True
    return False


def _short_lengths(trial: Trials, lengths: Tensor) -> Tensor:
    """Some of those that are shorter than the inputs, each once."""
    kinds = torch.unique(lengths[lengths < trial.sizes[0]])
    some: Tensor = kinds[torch.linspace(0, len(kinds) - 1, min(_MOST_LENGTHS, len(kinds))).long()]
    return some


def _moved(one: Tensor, other: Tensor) -> float:
    return math.sqrt(float(change(one, other).square().mean()))


def _compared(alone: Tensor, padded: Tensor) -> ReadAfterEnd:
    """Outputs (N, C) of the same sequences without and with their padding."""
    apart, still = ((part - part.mean(0)).norm(dim=1) for part in (alone, padded))
    if not float(apart.max()) > 0:
        return ReadAfterEnd(0.0, 1.0)
    effect = float((padded - alone).norm() / apart.norm())
    return ReadAfterEnd(effect, float((still / apart.clamp(min=1e-12 * float(apart.max()))).median()))


def filled_targets(trial: Trials, padding: Tensor) -> bool:
    """Whether targets for every step are one and the same at all padded ones, and not at the others.

    Else the steps of the targets need not be those of the inputs, though there are as many.
    """
    targets = None if trial.probe.targets is None else trial.steps_of(trial.probe.targets)
    if targets is None or targets.dim() != 2:
        return False
    filled, others = targets[padding.to(targets.device)], targets[~padding.to(targets.device)]
    return bool((filled == filled[0]).all()) and not bool((others == others[0]).all())
