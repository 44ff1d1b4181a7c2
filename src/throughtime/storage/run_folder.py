"""A run: the folder that holds a recipe, metrics, checkpoints, records and the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from throughtime.check import nearest
from throughtime.errors import RunError
from throughtime.storage.atomic import TEMPORARY_PREFIX, make_folder
from throughtime.storage.checkpoints import CheckpointStore
from throughtime.storage.disk_errors import reading, writing
from throughtime.storage.lock import HOLDER_NAME, LOCK_NAME

__all__ = ["RunFolder"]

_RECIPE_NAME = "recipe.toml"


@dataclass(frozen=True)
class RunFolder:
    """Where each part of a run lies. Use `create` for a new run and `open` for one that exists.

    Example:
        >>> RunFolder(Path("runs/book")).metrics_path.as_posix()
        'runs/book/metrics.jsonl'
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new run in a folder that is absent or empty; the folder and its parents are made.

        Raises:
            RunError: if `path` is a file, is in use already, or cannot be made.
        """
        with writing(path):
            if path.exists() and not path.is_dir():
                raise RunError(f"{path} is a file: choose another --out for the new run")
            if _is_run(path):
                raise RunError(f"{path} already holds a run: continue it with --resume, or choose another --out")
            if found := _content(path):
                raise RunError(f"{path} is not empty (it holds {found[0]}) and not a run: choose another --out")
            make_folder(path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """A run that exists.

        Raises:
            RunError: if `path` is absent or holds no recipe, with the nearest run there is.
        """
        with reading(path):
            if _is_run(path):
                return cls(path)
            if not path.exists():
                raise RunError(f"there is no run at {path}{_offer(path.parent, path.name)}")
            if not path.is_dir():
                raise RunError(f"{path} is a file: expected a run folder{_offer(path.parent, path.parent.name)}")
        raise RunError(f"{path} is not a run: it holds no {_RECIPE_NAME}{_offer(path, path.name)}")

    @property
    def recipe_path(self) -> Path:
        """All choices of the run, in TOML."""
        return self.path / _RECIPE_NAME

    @property
    def metrics_path(self) -> Path:
        """One JSON line a logged step; see `MetricsFile`."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(self.path / "checkpoints")

    @property
    def corpus_path(self) -> Path:
        """The folder of the prepared text."""
        return self.path / "corpus"

    @property
    def records_path(self) -> Path:
        """The folder of what measurements found."""
        return self.path / "records"

    @property
    def outcome_path(self) -> Path:
        """How the run ended, in JSON; absent while it has not."""
        return self.path / "outcome.json"


def _is_run(path: Path) -> bool:
    return (path / _RECIPE_NAME).is_file()


def _content(path: Path) -> list[str]:
    """Names in a folder, less what a process killed before it wrote anything leaves there."""
    if not path.exists():
        return []
    names = sorted(child.name for child in path.iterdir())
    return [name for name in names if name not in (LOCK_NAME, HOLDER_NAME) and not name.startswith(TEMPORARY_PREFIX)]


def _offer(folder: Path, name: str) -> str:
    """The end of an error: the nearest of the runs in `folder`, or nothing."""
    try:
        runs = {child.name: child for child in folder.iterdir() if _is_run(child)}
    except OSError:
        runs = {}
    return f"; among the runs in {folder}, {nearest(name, sorted(runs))}" if runs else ""
