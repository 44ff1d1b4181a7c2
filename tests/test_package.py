"""The package as users get it: sdist and wheel, installed in a fresh environment."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tiny import OPTIONS, made_text

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert "throughtime/py.typed" in names
    assert "throughtime/workflow/run.py" in names
    assert all(name.startswith(("throughtime/", "throughtime-")) for name in names)
    assert any(name.endswith("LICENSE") for name in names)


def test_the_sdist_builds_on(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = [name.split("/", 1)[-1] for name in sdist.getnames()]
    assert {"pyproject.toml", "README.md", "LICENSE", "src/throughtime/__init__.py"} <= set(names)


def test_the_line_of_the_tutorial_installs_it(built: Path, tmp_path: Path) -> None:
    """From what a reader unpacks; what it builds and depends on, gigabytes elsewhere, is what is installed already."""
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert "\npip install .\n" in tutorial
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    command = [sys.executable, "-m", "pip", "install", ".", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run(
        [*command, "--no-deps", "--no-index", "--no-build-isolation"],
        cwd=next(tmp_path.glob("throughtime-*")),
        check=True,
        timeout=300,
    )
    assert (tmp_path / "site" / "throughtime" / "workflow" / "run.py").exists()
    assert list((tmp_path / "site" / "throughtime" / "kernels").glob("_native*.so"))


def test_it_works_in_a_fresh_environment(built: Path, tmp_path: Path) -> None:
    """Its dependencies, gigabytes of them elsewhere, are lent by the environment that runs the tests."""
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=300
    )
    site = next((tmp_path / "fresh").glob("lib/python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    text = tmp_path / "book.txt"
    text.write_text(made_text(), encoding="utf-8")
    command = tmp_path / "fresh" / "bin" / "throughtime"
    for arguments in (
        ["train", str(text), "--out", "run", "--steps", "3", *OPTIONS],
        ["predict", "run", "The old man ___ his pipe."],
        ["doctor"],
    ):
        done = subprocess.run(
            [command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    where = subprocess.run(
        [python, "-c", "import throughtime; print(throughtime.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(site) in where
