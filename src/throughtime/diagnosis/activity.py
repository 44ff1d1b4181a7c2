"""Where units and gates stand on their curves, in any model: from the spectrum, or caught as they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from throughtime.diagnosis.case import Missing

if TYPE_CHECKING:
    from throughtime.diagnosis.evidence import Evidence

__all__ = ["Activity", "activities"]

_TANH = {torch.tanh, Tensor.tanh, Tensor.tanh_, torch.tanh_, F.tanh}
_SIGMOID = {torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, torch.sigmoid_, F.sigmoid}
_RELU = {torch.relu, Tensor.relu, Tensor.relu_, torch.relu_, F.relu}
_TANH_END = math.sqrt(0.9)
_SIGMOID_END = (1 + math.sqrt(0.9)) / 2
"""Beyond these the slope is below a tenth of the largest, as in `throughtime.spectrum`."""

_FEWEST_CALLS = 3
"""What is computed at every step; a layer above is not."""


@dataclass(frozen=True)
class Activity:
    """Of one function in the recurrence, over units, steps and sequences.

    Attributes:
        name: of the module and of the unit or gate.
        function: "tanh", "sigmoid" or "relu".
        low: share at the lower end, where the slope is below a tenth of the largest (of a ReLU: off).
        high: share at the upper end.
        stuck: share of units that are at an end at every step of every sequence.
        mean: of the absolute values.
    """

    name: str
    function: str
    low: float
    high: float
    stuck: float
    mean: float

    @property
    def flat(self) -> float:
        """Share at either end."""
        return self.low + self.high


def activities(evidence: Evidence) -> tuple[Activity, ...]:
    """Of every function in the recurrent layers that `throughtime.spectrum` knows, or else of every one that is caught.

    Raises:
        Missing: if nothing of the kind runs once a step.
    """
    if evidence.has("spectrum"):
        found = [
            Activity(f"{name}.{unit}", layer.functions[unit], low, high, layer.stuck[unit], layer.means[unit])
            for name, layer in evidence.spectrum.layers.items()
            if layer.saturation and layer.functions and layer.stuck and layer.means
            for unit, (low, high) in layer.saturation.items()
        ]
        if found:
            return tuple(found)
    caught = _Caught()
    with caught:
        evidence.outputs_for(evidence.case.inputs)
    found = caught.activities(evidence.num_steps if evidence.has("num_steps") else 1)
    if not found:
        raise Missing("a recurrence with tanh, sigmoid or ReLU units")
    return tuple(found)


class _Caught(TorchFunctionMode):
    """Notes what tanh, sigmoid and ReLU return, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = "tanh" if func in _TANH else "sigmoid" if func in _SIGMOID else "relu" if func in _RELU else None
        if name is not None and isinstance(result, Tensor) and result.dim() >= 1:
            self.values.setdefault((name, tuple(result.shape)), []).append(result.detach().clone())
        return result

    def activities(self, num_steps: int) -> list[Activity]:
        """One for each function and shape that was computed step after step.

        Gates of the same shape are computed in the same order at every step, which tells them apart.
        """
        found = []
        for (function, shape), calls in self.values.items():
            if len(calls) < _FEWEST_CALLS:
                continue
            several = len(calls) // num_steps if num_steps >= _FEWEST_CALLS and len(calls) % num_steps == 0 else 1
            for at in range(several):
                name = f"{function} of {shape[-1]}" if several == 1 else f"{function} {at + 1} of {several} in a step"
                found.append(self._activity(name, function, calls[at::several]))
        return found

    @staticmethod
    def _activity(name: str, function: str, calls: list[Tensor]) -> Activity:
        values = torch.stack(calls).flatten(0, -2)  # (steps * sequences, units)
        if function == "tanh":
            low, high = values < -_TANH_END, values > _TANH_END
        elif function == "sigmoid":
            low, high = values < 1 - _SIGMOID_END, values > _SIGMOID_END
        else:
            low, high = values <= 0, torch.zeros_like(values, dtype=torch.bool)
        stuck = (low | high).all(0).double().mean().item()
        ends = (low.double().mean().item(), high.double().mean().item())
        mean = values.double().abs().mean().item()
        return Activity(name, function, *ends, stuck, mean)
