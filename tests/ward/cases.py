"""All cases of the ward, gathered from every script in `scripts/`."""

from __future__ import annotations

import importlib
from pathlib import Path

from ward.case import Case

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "scripts").glob("*.py"))
CASES: list[Case] = [case for script in SCRIPTS for case in importlib.import_module(f"ward.scripts.{script}").CASES]
