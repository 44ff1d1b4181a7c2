"""How the documentation is built: `make docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from sphinx.util import logging

import throughtime
from throughtime.version import __version__

project = "throughtime"
author = copyright = "the throughtime authors"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "throughtime"

smartquotes = False  # quotation marks are those of Python
default_role = "literal"  # docstrings write code between single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = [name for name in ("pytorch_lightning", "transformers") if find_spec(name) is None]
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute that is a property too would be described twice

HERE = Path(__file__).parent
INTERNAL = ("cli", "version", "shapes", "check", "__main__")
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Example:", "Yields:", "Note:")
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
        if page == "throughtime":
            text += "   :no-index:\n"  # what it hands on is described where it comes from, and links lead there
        elif page.removeprefix("throughtime.") in parts:
            text += "".join(f"\n.. autodata:: {name}\n   :no-value:\n" for name in _constants(page))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _none_forgotten(app: Any, env: Any) -> None:  # noqa: ARG001 - Sphinx's
    """Say which public names the reference lacks: with `-W`, no page of documentation is built without them."""
    described = set(env.domains["py"].objects)
    for path in sorted((HERE / "reference" / "api").glob("*.rst")):
        part = sys.modules.get(path.stem)  # as it was read; of a page that was not read again all is known
        for name in getattr(part, "__all__", ()):
            # Of what `throughtime` hands on, the description stands where it comes from.
            home = getattr(getattr(part, name), "__module__", "") if path.stem == "throughtime" else path.stem
            under = ".".join(home.split(".")[:2]) + "."
            known = any(found.startswith(under) and found.endswith(f".{name}") for found in described)
            if not known and not name.startswith("_"):
                logging.getLogger(__name__).warning("%s.%s is public, and not in the reference", path.stem, name)


def _constants(page: str) -> Iterator[str]:
    """Public values of a part, by the module that makes them: only there are their docstrings found."""
    part = import_module(page)
    for name in getattr(part, "__all__", ()):
        value = getattr(part, name)
        if not inspect.isclass(value) and not inspect.isroutine(value):
            inner = [module for module in sys.modules if module.startswith(f"{page}.")]
            yield next((f"{module}.{name}" for module in inner if name in _assigned(module)), f"{page}.{name}")


def _assigned(module: str) -> set[str]:
    """The names that a module makes itself."""
    text = Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+)(?:: [^=\n]+)? = ", text, flags=re.MULTILINE))


def _without_empty_patterns(app: Any, page: str, source: list[str]) -> None:  # noqa: ARG001 - Sphinx's
    """A list of pages may name some by a pattern before there is any, which Sphinx takes for a mistake."""
    folder = (HERE / page).parent
    lines = source[0].splitlines(keepends=True)
    source[0] = "".join(
        line for line in lines if not re.fullmatch(r"[\w./-]*\*", line.strip()) or _matches(folder, line)
    )


def _matches(folder: Path, pattern: str) -> bool:
    where = (folder / pattern.strip()).resolve()
    return any(where.parent.glob(f"{where.name}.md")) or where.parent.name == "api"


def _as_written(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Docstrings are written for a terminal: an indented formula is shown as it stands, and bars are no markup."""
    shown: list[str] = []
    in_section, in_formula = False, False
    for line in lines:
        indented, after_blank = line.startswith("    "), not shown or not shown[-1].strip()
        if line and not indented:
            in_section, in_formula = line in SECTIONS, False
        elif indented and after_blank and not in_section and not in_formula:
            shown += ["::", ""]
            in_formula = True
        line = re.sub(r"^(\s+\w+: )(?=[A-Z]\.)", r"\1\\", line)  # a size called I is no list that begins with one
        plain = in_formula or line.lstrip().startswith((">>>", "..."))
        shown.append(line if plain else "`".join(_escaped(line.split("`"))))
    lines[:] = shown


def _escaped(parts: list[str]) -> list[str]:
    """Every second part stands between backticks, and is code."""
    return [part if place % 2 else part.replace("|", "\\|") for place, part in enumerate(parts)]


def setup(app: Any) -> None:
    """What Sphinx calls first."""
    app.connect("builder-inited", _write_reference)
    app.connect("source-read", _without_empty_patterns)
    app.connect("env-check-consistency", _none_forgotten)
    app.connect("autodoc-process-docstring", _as_written, priority=400)  # ahead of napoleon, which reads the sections
