"""How the documentation is built: `make docs`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import throughtime
from throughtime.version import __version__

project = "throughtime"
author = copyright = "the throughtime authors"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# A page that another part of the project brings along is taken in by a pattern, and need not be there.
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = "throughtime"

default_role = "literal"  # docstrings write code between single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = [name for name in ("pytorch_lightning", "transformers") if find_spec(name) is None]
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute that is a property too would be described twice

HERE = Path(__file__).parent
INTERNAL = ("cli", "version", "shapes", "check", "__main__")
PARTS_OF_THEIR_OWN = ("integrations.lightning", "integrations.transformers", "integrations.onnx")


def _write_reference(*_: Any) -> None:
    """A page for each part of the package, so that a public name cannot be forgotten."""
    folder = HERE / "reference" / "api"
    folder.mkdir(exist_ok=True)
    parts = [found.name for found in iter_modules(throughtime.__path__) if found.name not in INTERNAL]
    pages = {"throughtime", *(f"throughtime.{part}" for part in (*parts, *PARTS_OF_THEIR_OWN))}
    for page in pages:
        path, title = folder / f"{page}.rst", f"{page}\n{'=' * len(page)}"
        text = f"{title}\n\n.. automodule:: {page}\n   :members:\n   :imported-members:\n   :show-inheritance:\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def setup(app: Any) -> None:
    """What Sphinx calls first."""
    app.connect("builder-inited", _write_reference)
