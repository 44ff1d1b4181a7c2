"""throughtime trains recurrent neural networks that remember, and shows why the others do not.

The public names are found at their first use, so that importing the package, or asking the command line for help,
does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from throughtime.version import __version__

if TYPE_CHECKING:
    from throughtime.cell import Cell, cells
    from throughtime.layer import Recurrent
    from throughtime.measurement import horizons, measure, need, register_adapter, spectrum, use
    from throughtime.recipe import Recipe
    from throughtime.workflow import Predictor, Run, compare, doctor, evaluate, load, train

__all__ = [
    "Cell",
    "Predictor",
    "Recipe",
    "Recurrent",
    "Run",
    "__version__",
    "cells",
    "compare",
    "doctor",
    "evaluate",
    "horizons",
    "load",
    "measure",
    "need",
    "register_adapter",
    "spectrum",
    "train",
    "use",
]

_HOMES = {
    "Cell": "cell",
    "Predictor": "workflow",
    "Recipe": "recipe",
    "Recurrent": "layer",
    "Run": "workflow",
    "cells": "cell",
    "compare": "workflow",
    "doctor": "workflow",
    "evaluate": "workflow",
    "horizons": "measurement",
    "load": "workflow",
    "measure": "measurement",
    "need": "measurement",
    "register_adapter": "measurement",
    "spectrum": "measurement",
    "train": "workflow",
    "use": "measurement",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'throughtime' has no attribute '{name}'")
    return getattr(import_module(f"throughtime.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
