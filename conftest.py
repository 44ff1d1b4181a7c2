"""Modules that need a library which is not installed are not collected; their tests are skipped, and say so."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDED = {
    "src/throughtime/integrations/lightning.py": ("pytorch_lightning", "lightning"),
    "src/throughtime/integrations/transformers.py": ("transformers",),
}

collect_ignore = [path for path, libraries in _NEEDED.items() if all(find_spec(name) is None for name in libraries)]
