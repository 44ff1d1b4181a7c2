"""Starts and gains of a recurrence that its user wrote by hand, in plain PyTorch: `TreatmentPlan.code` prints these.

What is what in it is found by `throughtime.remedy.tracing`, and handed over as text: "recurrent cell.wh.weight",
"input cell.gate.weight[:, :6]", "bias cell.wx.bias", "keeps-low cell.gate.bias" (a gate that keeps the state where it
is near 0), "reader out" (a module that reads the state outside of the recurrence).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["named_part", "redraw_hand_written", "scale_hand_written"]


def named_part(model: nn.Module, name: str) -> Tensor:
    """A view of a parameter: "cell.gate.weight", "cell.gate.weight[:, 6:38]", "gates.bias[:32]"."""
    path, _, slices = name.partition("[")
    found = re.findall(r"(\d*):(\d*)", slices)
    return model.get_parameter(path).data[tuple(slice(*(int(end) if end else None for end in pair)) for pair in found)]


def redraw_hand_written(
    model: nn.Module, parts: Sequence[str], start: str, gain: float | None = None, max_lag: int = 100
) -> int:
    """Recurrent matrices orthogonal, the identity or Gaussian; inputs Glorot; biases zero; gates that keep the state.

    Returns:
        How many recurrent matrices were drawn anew.
    """
    count = 0
    with torch.no_grad():
        for kind, name in (part.split(" ", 1) for part in parts if not part.startswith("reader ")):
            part = named_part(model, name)
            if kind == "recurrent":
                count += 1
                side = min(part.shape)
                for block in part.chunk(max(part.shape) // side, dim=0 if part.size(0) >= part.size(1) else 1):
                    if start == "identity":
                        nn.init.eye_(block).mul_(1.0 if gain is None else gain)
                    elif start == "critical":
                        nn.init.normal_(block, std=(1.0 if gain is None else gain) / math.sqrt(side))
                    else:
                        nn.init.orthogonal_(block, 1.0 if gain is None else gain)
            elif kind == "input" and start == "identity":
                nn.init.normal_(part, std=0.001)
            elif kind == "input":
                nn.init.xavier_uniform_(part)
            elif kind == "bias" or start not in ("forget-bias", "chrono", "uniform-gate"):
                nn.init.zeros_(part)
            else:
                drawn = nn.init.ones_(torch.empty_like(part))
                if start == "chrono":
                    drawn = nn.init.uniform_(drawn, 1, max(max_lag, 3) - 1).log_()
                elif start == "uniform-gate":
                    drawn = nn.init.uniform_(drawn, 1 / part.numel(), 1 - 1 / part.numel()).logit_()
                part.copy_(drawn if kind == "keeps-high" else -drawn)
    return count


def scale_hand_written(model: nn.Module, parts: Sequence[str], gain: float) -> int:
    """What reads the state outside of the recurrence hands on `gain` times as much.

    Returns:
        How many modules do.
    """
    readers = [part.removeprefix("reader ") for part in parts if part.startswith("reader ")]
    for name in readers:
        model.get_submodule(name).register_forward_hook(TimesGain(gain))
    return len(readers)


class TimesGain:
    """A forward hook: what a module returned, times a gain."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, _: nn.Module, __: object, result: Tensor) -> Tensor:
        """The product."""
        return self.gain * result
