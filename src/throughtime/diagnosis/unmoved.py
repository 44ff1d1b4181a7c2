"""optimizer-misses-parameters: the loss depends on them, and they never change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.parameters import Found, Reliance, all_parameters, reliances
from throughtime.layer import Recurrent

__all__ = ["find"]

SMALL_SHARE = 0.01
"""A start state or a bias that is left as it is costs little: below this share of all numbers it is a warning."""

FEWEST_CALLS = 3
"""Of a module in one forward pass: fewer may be two uses of one layer, and no loop over time."""

NAMED = 4
"""Names in the summary; all of them are in the evidence."""

_PRETRAINED = (nn.Embedding, nn.EmbeddingBag, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase)
"""What is taken from another model, and left as it is, on purpose."""

LEARNS_FROZEN = 0.8
"""Of the chance loss: a model that has got rid of so much beside frozen recurrent weights is a reservoir, meant so."""

BEYOND = 1.05
"""Times the bound within which torch draws biases."""

MANY_KINDS = 3
"""Different numbers beyond it: a start that sets its gates by hand has fewer."""

_RECURRENT = (nn.RNNBase, nn.RNNCellBase, Recurrent)


@dataclass(frozen=True)
class _Unmoved:
    names: tuple[str, ...]
    severity: str
    why: str
    remedy: str


def find(evidence: Evidence) -> Finding | None:
    """From one backward pass of a copy in which every parameter asks for its gradient."""
    everything = all_parameters(evidence.case.model)
    relied = reliances(evidence.case)
    depended = {name: found for name, found in everything.items() if name in relied and relied[name].gradient_norm > 0}
    total = sum(found.parameter.numel() for found in everything.values())
    groups = [group for group in (_hidden(evidence, depended), *_of_model(evidence, depended, relied)) if group.names]
    if not groups:
        if not evidence.case.optimizers and evidence.case.history is None:
            raise Missing("an optimizer, or a watch of the training loop")
        return None
    order = ("error", "warning", "info")
    worst = min(groups, key=lambda group: order.index(group.severity))
    names = [name for group in groups for name in group.names]
    numbers = sum(everything[name].parameter.numel() for name in worst.names)
    severity = worst.severity
    if severity == "error" and numbers < SMALL_SHARE * total:
        severity = "warning"
    told = ", ".join(worst.names[:NAMED]) + (
        f" and {len(worst.names) - NAMED} more" if len(worst.names) > NAMED else ""
    )
    return Finding(
        "optimizer-misses-parameters",
        severity,
        1.0 if severity == "error" else 0.5,
        f"{numbers} of {total} numbers never change although the loss depends on them, in {told}: {worst.why}; "
        f"{worst.remedy}",
        {
            "names": list(worst.names),
            "all_names": names,
            "num_numbers": numbers,
            "num_total": total,
            "gradient_norms": {name: relied[name].gradient_norm for name in worst.names},
        },
    )


def _hidden(evidence: Evidence, depended: dict[str, Found]) -> _Unmoved:
    """In plain lists and dicts, and in no optimizer all the same."""
    held = _held(evidence)
    names = [n for n, found in depended.items() if not found.registered and id(found.parameter) not in held]
    return _Unmoved(
        tuple(names),
        "error",
        "they are kept in a plain list, tuple or dict, where model.parameters() does not find them",
        "keep them in an nn.ModuleList, nn.ModuleDict or nn.ParameterList",
    )


def _of_model(evidence: Evidence, depended: dict[str, Found], relied: dict[str, Reliance]) -> list[_Unmoved]:
    own = {name: found for name, found in depended.items() if found.registered}
    frozen = [name for name, found in own.items() if not found.parameter.requires_grad]
    trainable = [name for name in own if name not in frozen]
    groups = _frozen(evidence, own, frozen, relied) if trainable and frozen else []
    if not evidence.case.optimizers:
        history = evidence.case.history
        missed = [] if history is None else [name for name in trainable if name in history.not_in_optimizer]
        still: list[str] = []
    else:
        held = _held(evidence)
        missed = [name for name in trainable if id(own[name].parameter) not in held]
        at_rest = _at_rest(evidence)
        still = [name for name in trainable if id(own[name].parameter) in at_rest]
    pretrained = all(isinstance(own[name].owner, _PRETRAINED) for name in missed)
    groups.append(
        _Unmoved(
            tuple(missed),
            "warning" if pretrained else "error",
            "no optimizer holds them",
            "make the optimizer from model.parameters(), after the last change of the model",
        )
    )
    if len(still) < len(trainable):
        why = "their parameter group has learning rate 0"
        groups.append(_Unmoved(tuple(still), "error", why, "give the group a learning rate"))
    return groups


def _reservoir(evidence: Evidence) -> bool:
    """Whether the model learns nearly all that there is to learn, whatever is frozen."""
    of = ("progress", "batch_progress", "loop_progress")
    return any(evidence.has(name) and getattr(evidence, name) >= LEARNS_FROZEN for name in of)


def _as_trained(names: list[str], own: dict[str, Found]) -> bool:
    """Whether all recurrent modules among them come from another training: biases that no start gives.

    Torch draws biases as it does weights, from within the root of 1 / H; other starts set all of a gate alike.
    """
    owners = {id(own[name].owner): own[name].owner for name in names}
    for owner in owners.values():
        size = getattr(owner, "hidden_size", None)
        biases = [p.detach() for key, p in owner.named_parameters(recurse=False) if p.dim() == 1 and "bias" in key]
        if not isinstance(size, int) or not biases:
            return False
        together = torch.cat(biases)
        if len(torch.unique(together[together.abs() > BEYOND * size**-0.5])) <= MANY_KINDS:
            return False
    return bool(owners)


def _frozen(
    evidence: Evidence, own: dict[str, Found], frozen: list[str], relied: dict[str, Reliance]
) -> list[_Unmoved]:
    """Weights of the recurrence and of the last layer learn in other models; an embedding may be left as it came.

    So may a recurrence that comes from another training, and one beside which the model learns all the same.
    """
    last = next(reversed([name for name, found in own.items() if found.parameter.dim() > 1]), None)
    grave = [
        name
        for name in frozen
        if own[name].parameter.dim() > 1 and (_recurrent(own[name], relied[name]) or name == last)
    ]
    grave = [name for name in grave if not isinstance(own[name].owner, _PRETRAINED)]
    meant = bool(grave) and (_as_trained(grave, own) or _reservoir(evidence))
    pretrained = [name for name in frozen if isinstance(own[name].owner, _PRETRAINED)]
    others = [name for name in frozen if name not in grave and name not in pretrained]
    why, remedy = "they are frozen (requires_grad is False)", "set requires_grad to True unless that is on purpose"
    return [
        _Unmoved(tuple(names), severity, why, remedy)
        for names, severity in ((grave, "warning" if meant else "error"), (others, "warning"), (pretrained, "info"))
    ]


def _recurrent(found: Found, reliance: Reliance) -> bool:
    """In a recurrent module, or in one that is called once a step."""
    return isinstance(found.owner, _RECURRENT) or reliance.num_calls >= FEWEST_CALLS


def _held(evidence: Evidence) -> set[int]:
    return {id(p) for p in _parameters_of(evidence)}


def _parameters_of(evidence: Evidence) -> list[Tensor]:
    return [p for optimizer in evidence.case.optimizers for group in optimizer.param_groups for p in group["params"]]


def _at_rest(evidence: Evidence) -> set[int]:
    """Held by groups whose rate is 0, and is not planned to become anything else."""
    groups = [group for optimizer in evidence.case.optimizers for group in optimizer.param_groups]
    return {
        id(p)
        for group in groups
        if float(group["lr"]) == 0 and not float(group.get("initial_lr", 0)) > 0
        for p in group["params"]
    }
