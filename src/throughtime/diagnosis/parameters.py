"""Every parameter that a model computes with: those it has registered, and those it keeps where it cannot see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.losses import mean_loss
from throughtime.diagnosis.rehearsal import as_found, copies_of
from throughtime.measurement.arguments import forward, own

__all__ = ["Found", "Reliance", "all_parameters", "reliances"]

_OWN = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class Found:
    """A parameter and where it is.

    Attributes:
        parameter: the tensor.
        owner: the module that it belongs to, or in whose list it is.
        registered: whether `model.parameters()` gives it.
    """

    parameter: Tensor
    owner: nn.Module
    registered: bool


@dataclass(frozen=True)
class Reliance:
    """How the loss of a batch comes to depend on a parameter.

    Attributes:
        gradient_norm: of the loss with respect to it; 0 where there is none.
        num_calls: of its owner in the forward pass.
    """

    gradient_norm: float
    num_calls: int


def all_parameters(model: nn.Module) -> dict[str, Found]:
    """By name, in order; what is kept in plain lists, tuples and dicts is named like `cells[0].weight`."""
    found: dict[str, Found] = {}
    known: set[int] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if id(parameter) not in known:
                known.add(id(parameter))
                found[name] = Found(parameter, module, True)
    registered = {id(module) for module in model.modules()}
    for prefix, module in list(model.named_modules()):
        for attribute, value in vars(module).items():
            if attribute in _OWN:
                continue
            for name, kept, owner in _kept(f"{prefix}.{attribute}".lstrip("."), value, module, registered):
                if id(kept) not in known:
                    known.add(id(kept))
                    found[name] = Found(kept, owner, False)
    return found


def _kept(name: str, value: Any, owner: nn.Module, registered: set[int]) -> Iterator[tuple[str, Tensor, nn.Module]]:
    if isinstance(value, nn.Module):
        if id(value) not in registered:
            registered.add(id(value))
            for inner, found in all_parameters(value).items():
                yield f"{name}.{inner}", found.parameter, found.owner
    elif isinstance(value, Tensor):
        if value.is_leaf and (value.requires_grad or isinstance(value, nn.Parameter)):
            yield name, value, owner
    elif type(value) in (list, tuple):
        for at, part in enumerate(value):
            yield from _kept(f"{name}[{at}]", part, owner, registered)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _kept(f"{name}[{key!r}]", part, owner, registered)


def reliances(case: Case) -> dict[str, Reliance]:
    """Of the loss on all of `all_parameters`, frozen ones too.

    Raises:
        Missing: if the model cannot be copied, or the loss has no gradient.
    """
    calls: Counter[nn.Module] = Counter()
    with as_found(case):
        patient = copies_of(case)
        everything = all_parameters(patient.model)
        for found in everything.values():
            if found.parameter.is_floating_point():
                found.parameter.requires_grad_(True)
                found.parameter.grad = None
        for owner in {found.owner for found in everything.values()}:
            owner.register_forward_hook(lambda module, *_: calls.update([module]))
        try:
            value = mean_loss(patient.loss, forward(patient.model, own(case.inputs)), own(case.targets))
            value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation
        except Exception as error:
            raise Missing(f"a loss that has a gradient ({type(error).__name__}: {error})") from error
        return {
            name: Reliance(
                0.0 if found.parameter.grad is None else float(found.parameter.grad.norm()), calls[found.owner]
            )
            for name, found in everything.items()
        }
