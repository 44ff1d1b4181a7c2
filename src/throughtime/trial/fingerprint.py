"""By what a ledger knows its patient again: what it is made of, and what it does before any training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from throughtime.measurement.arguments import tensors_within
from throughtime.trial.loop import called, first_piece, mean_loss
from throughtime.trial.patient import OPTIONAL, Batches, Patient, option
from throughtime.trial.surroundings import quietly, seeded

__all__ = ["fingerprint"]

_DIGITS = 3
"""Of a loss and a score: another machine may round the seventh otherwise."""
_PLAIN = (bool, int, float, str, tuple, list, type(None))


def fingerprint(patient: Patient, seed: int) -> str:
    """Twenty letters that change with whatever makes its trainings others.

    These are its weights and its first batch; the optimizer and its options; target, length of training and what else a
    loop reads; the loss of the first batch and the score before training, in which model, loss and score show; and the
    code of its methods. What they call elsewhere, and shows in none of these numbers, is not seen.

    Args:
        patient: that was looked over.
        seed: of what is built.
    """
    content = hashlib.sha256(repr((patient.target, *_options(patient), *_code(patient))).encode())
    with seeded(seed), quietly():
        model, optimizer = patient.build(seed)
        inputs, targets = next(Batches(patient, seed))
        for tensor in (*model.parameters(), *tensors_within((inputs, targets))):
            content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        content.update(repr(_settings(optimizer)).encode())
        if option(patient, "train") is None:
            content.update(_told(lambda: _first_loss(patient, model.train(), inputs, targets)).encode())
        content.update(_told(lambda: patient.score(model.eval())).encode())
    return content.hexdigest()[:20]


def _first_loss(patient: Patient, model: nn.Module, inputs: Any, targets: Any) -> float:
    inputs, targets = first_piece(patient, model, inputs, targets)
    return float(mean_loss(patient, called(model, inputs)[0], targets))


def _told(ask: Callable[[], float]) -> str:
    """A number to some digits, or the kind of error with which the patient failed."""
    try:
        with torch.no_grad():
            return f"{float(ask()):.{_DIGITS}g}"
    except (Exception, SystemExit) as error:
        return type(error).__name__


def _options(patient: Patient) -> list[tuple[str, Any]]:
    values = {name: option(patient, name) for name in OPTIONAL}
    return [(name, value) for name, value in values.items() if isinstance(value, _PLAIN)]


def _settings(optimizer: Optimizer) -> list[Any]:
    """Its class, and the options of each group."""
    groups = [
        sorted((name, repr(value)) for name, value in group.items() if isinstance(value, _PLAIN) and name != "params")
        for group in optimizer.param_groups
    ]
    return [type(optimizer).__name__, *groups]


def _code(patient: Patient) -> list[tuple[str, bytes]]:
    """The instructions of the methods that its own classes define, without where they stand in a file."""
    found = []
    for kind in type(patient).__mro__[:-1]:
        if not kind.__module__.startswith("throughtime."):
            methods = {name: getattr(value, "__code__", None) for name, value in vars(kind).items()}
            found += [(name, _instructions(code)) for name, code in sorted(methods.items()) if code is not None]
    return found


def _instructions(code: CodeType) -> bytes:
    return b"".join(_parts(code))


def _parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        yield from _parts(constant) if isinstance(constant, CodeType) else (_words(constant).encode(),)


def _words(constant: object) -> str:
    """The same in every process: the order of a set is not."""
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
