"""What the package finds on this machine, and what it therefore uses."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from throughtime.cell import cells, make_cell
from throughtime.kernels import absence, library
from throughtime.recipe import Compute
from throughtime.scan import choose
from throughtime.training import settle
from throughtime.version import __version__

__all__ = ["doctor"]

PACKAGES = ("torch", "numpy", "safetensors", "cyclopts", "rich", "tomli-w", "filelock", "zstandard", "joblib", "bokeh")


def doctor(*, device: str = "auto", threads: int = 0) -> dict[str, Any]:
    """Versions, threads, devices, and which kernels are in use and why.

    Args:
        device: what would be asked for.
        threads: what would be asked for; 0 for torch's choice.

    Returns:
        Plain values, in the order in which they are worth reading.

    Raises:
        RecipeError: if the device is unknown or absent.
    """
    settled = settle(Compute(device=device, threads=threads))
    x = torch.zeros(2, 2, 4, device=settled.device)
    loops = library()
    kernels = {}
    for info in cells():
        choice = choose(make_cell(info.name, 4, 4).to(settled.device), x)
        kernels[info.name] = {"scan": choice.scan, "why": choice.reason}
    return {
        "versions": {
            "throughtime": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cuda_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
        "in_use": {"device": settled.device, "threads": settled.threads},
        "softmax_in_training": {"precision": settled.precision, "why": settled.why},
        "compiled_loops": {
            "there": loops is not None,
            "why": f"built for {loops.instruction_set}" if loops else absence(),
        },
        "kernels": kernels,
    }
