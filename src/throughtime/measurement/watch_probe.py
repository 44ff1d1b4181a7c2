"""Small probes of a model in training, on the batch of its last call, that leave no trace."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.layer import Recurrent
from throughtime.measurement.axes import settled_axes
from throughtime.measurement.gradient import measure
from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.non_finite import bad_activation
from throughtime.measurement.probe import Axes, Probe, first_tensor

__all__ = ["Batch", "Prober", "unprobable"]

NUM_SEQUENCES = 4
SECONDS_A_STEP = 5e-4
"""A guess at what one step of one layer costs, forward and all ways back, before any probe was made."""


@dataclass(frozen=True)
class Batch:
    """What the model was called with, by reference, and in which precision.

    Attributes:
        args: positional arguments.
        kwargs: named ones.
        device: type of the model's device.
        autocast: dtype of mixed precision; None without.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    autocast: torch.dtype | None

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Batch:
        """As the call is made."""
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return cls(args, kwargs, device, dtype)

    def as_inputs(self, model: nn.Module) -> Any:
        """As `measure` takes them: a tuple, or a dict of named ones."""
        if not self.kwargs:
            return self.args
        if not self.args:
            return self.kwargs
        return dict(inspect.signature(model.forward).bind(*self.args, **self.kwargs).arguments)

    def bad_activation(self, model: nn.Module) -> tuple[str, str] | None:
        """Where NaN or infinity comes up first, in a copy of `model`."""
        with _traceless(), torch.autocast(self.device, self.autocast, enabled=self.autocast is not None):
            return bad_activation(model, self.args, self.kwargs)


class Prober:
    """Makes the probes of one training; which axes of its inputs are time and sequences is tried out once.

    Args:
        model: what is trained.
        loss: (outputs, targets) -> a loss; None for random projections.
        time_dim: axis of time in the inputs; as the model reads them unless given.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Any] | None, time_dim: int | None) -> None:
        self._model, self._loss, self._time_dim = model, loss, time_dim
        self._settled: dict[int, Axes] = {}  # by the number of axes of the inputs

    def guessed_seconds(self, batch: Batch) -> float:
        """What a probe may cost, before one was made: it runs step by step.

        Raises:
            InputError: if the axes cannot be known.
        """
        inputs = batch.as_inputs(self._model)
        axes, x = self._axes(batch, inputs), first_tensor(inputs)
        num_layers = 0
        for module in self._model.modules():
            if isinstance(module, Recurrent | nn.RNNBase):
                num_layers += module.num_layers * (2 if module.bidirectional else 1)
        alone = isinstance(x, Tensor) and x.dim() <= max(axes.time, axes.batch)
        return SECONDS_A_STEP * Probe.of(inputs, None, axes, alone=alone).num_steps * max(1, num_layers)

    def record(self, batch: Batch, targets: Tensor | None) -> GradientRecord:
        """Measure a few sequences of the batch.

        Raises:
            InputError: if they cannot be measured.
        """
        inputs = batch.as_inputs(self._model)
        axes = self._axes(batch, inputs)
        with _traceless(), torch.autocast(batch.device, enabled=False):
            return measure(
                self._model,
                inputs,
                targets,
                self._loss,
                time_dim=axes.time,
                batch_dim=axes.batch,
                num_sequences=NUM_SEQUENCES,
            )

    def _axes(self, batch: Batch, inputs: Any) -> Axes:
        """Remembered: a copy of the model is called for it, with a few sequences."""
        x = first_tensor(inputs)
        num_axes = x.dim() if isinstance(x, Tensor) else -1  # packed
        if num_axes not in self._settled:
            with _traceless(), torch.autocast(batch.device, enabled=False):
                self._settled[num_axes], _ = settled_axes(self._model, inputs, self._time_dim, None)
        return self._settled[num_axes]


def unprobable(model: nn.Module) -> str | None:
    """Why a model cannot be run by one process alone; None where it can."""
    if not _several_processes() or not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        return None
    return "its batch normalisation waits for the other processes"


@contextmanager
def _traceless() -> Iterator[None]:
    """Every random state is put back, and nothing is warned of; `measure` and copies leave the model alone."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _several_processes() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
