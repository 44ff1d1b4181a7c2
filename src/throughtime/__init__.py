"""throughtime trains recurrent neural networks that remember, and shows why the others do not.

The public names are found at their first use, so that importing the package, or asking the command line for help,
does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from throughtime.version import __version__

if TYPE_CHECKING:
    from throughtime import tasks as tasks
    from throughtime.cell import Cell, cells
    from throughtime.diagnosis import Diagnosis, Finding, diagnose
    from throughtime.layer import Recurrent
    from throughtime.measurement import horizons, measure, need, register_adapter, spectrum, use, watch
    from throughtime.recipe import Recipe
    from throughtime.remedy import TreatmentPlan, prescribe
    from throughtime.trial import Treatment, treat
    from throughtime.workflow import Predictor, Run, bench, compare, doctor, evaluate, export, load, report, train, why

__all__ = [
    "Cell",
    "Diagnosis",
    "Finding",
    "Predictor",
    "Recipe",
    "Recurrent",
    "Run",
    "Treatment",
    "TreatmentPlan",
    "__version__",
    "bench",
    "cells",
    "compare",
    "diagnose",
    "doctor",
    "evaluate",
    "export",
    "horizons",
    "load",
    "measure",
    "need",
    "prescribe",
    "register_adapter",
    "report",
    "spectrum",
    "train",
    "treat",
    "use",
    "watch",
    "why",
]

_HOMES = {
    "Cell": "cell",
    "Diagnosis": "diagnosis",
    "Finding": "diagnosis",
    "Predictor": "workflow",
    "Recipe": "recipe",
    "Recurrent": "layer",
    "Run": "workflow",
    "Treatment": "trial",
    "TreatmentPlan": "remedy",
    "bench": "workflow",
    "cells": "cell",
    "compare": "workflow",
    "diagnose": "diagnosis",
    "doctor": "workflow",
    "evaluate": "workflow",
    "export": "workflow",
    "horizons": "measurement",
    "load": "workflow",
    "measure": "measurement",
    "need": "measurement",
    "prescribe": "remedy",
    "register_adapter": "measurement",
    "report": "workflow",
    "spectrum": "measurement",
    "train": "workflow",
    "treat": "trial",
    "use": "measurement",
    "watch": "measurement",
    "why": "workflow",
}


# A sub-package that is used by its own name. It is not in `__all__`, which lists functions and classes.
_PACKAGES = ("tasks",)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"throughtime.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'throughtime' has no attribute '{name}'")
    return getattr(import_module(f"throughtime.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
