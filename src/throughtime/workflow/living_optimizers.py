"""The optimizers of a script: those that it has made, and what they hold."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["holding", "living_optimizers", "parameters_of"]


def living_optimizers() -> list[Optimizer]:
    """Those that the script has made."""
    found = [each for each in gc.get_objects() if issubclass(type(each), Optimizer)]
    return [each for each in found if hasattr(each, "param_groups")]  # others failed as they were made


def holding(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """Those among them that hold any of its parameters."""
    own = {id(p) for p in model.parameters()}
    return [each for each in optimizers if any(id(p) in own for p in parameters_of(each))]


def parameters_of(optimizer: Optimizer) -> Iterator[Tensor]:
    """All that it holds."""
    return (p for group in optimizer.param_groups for p in group["params"])
