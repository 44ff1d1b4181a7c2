"""Where something comes from: the versions, the machine and the command that made it."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import torch

from throughtime.version import __version__

__all__ = ["ORIGIN_FILE", "origin"]

ORIGIN_FILE = "origin.json"


def origin() -> dict[str, Any]:
    """Of whatever this process is making."""
    return {
        "throughtime": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores with {torch.backends.cpu.get_cpu_capability()}",
        "command": sys.argv,
    }
