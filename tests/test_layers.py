"""The direction of imports: left never imports right, and siblings do not know each other (DESIGN: Layers)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import throughtime

PACKAGE = Path(throughtime.__file__).parent
LAYERS = (
    ("errors", "shapes", "check", "version"),
    ("storage",),
    ("kernels",),
    ("cell", "scan", "text", "tasks"),
    ("layer", "ngram"),
    ("model",),
    ("recipe",),
    ("training", "measurement"),
    ("diagnosis",),
    ("remedy",),
    ("trial",),
    ("reporting",),
    ("integrations",),
    ("workflow",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FOUNDATION = set(LAYERS[0])


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> Iterator[str]:
    """The sub-packages that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "throughtime":
                names = [f"throughtime.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("throughtime."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    own = part_of(path)
    if own == "__init__":
        return
    for other in imported_parts(path):
        allowed = other == own or LEVEL[other] < LEVEL[own] or {own, other} <= FOUNDATION
        assert allowed, f"{own} imports {other}, which is not to its left"


def test_every_part_has_its_layer() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__"}
    assert parts == set(LEVEL)


def test_no_package_bears_a_public_name() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert not packages & set(throughtime.__all__)


def test_public_names_exist() -> None:
    for name in throughtime.__all__:
        assert getattr(throughtime, name) is not None


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils.py", "misc.py", "common.py", "helpers.py"}
    assert not drawers & {path.name for path in modules()}


def test_the_drawing_shows_these_layers() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.split("```text\n")[1].split("```")[0]
    rows = [tuple(re.findall(r"\w+", line)) for line in drawing.splitlines()]
    assert tuple(row for row in reversed(rows) if row) == LAYERS
