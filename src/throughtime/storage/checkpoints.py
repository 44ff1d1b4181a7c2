"""Checkpoints: everything a run needs to go on, in folders that exist only once they are whole.

A checkpoint is `step-000000123/`: one safetensors file a group of tensors, `values.json`, and a manifest. It is written
beside, flushed, sealed and renamed; it is read only after its manifest verifies. A checkpoint whose step is saved again
waits as `step-000000123.replaced` until its successor is whole, and stands in for it if that never happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.atomic import make_folder, new_folder, remove_folder, sweep
from throughtime.storage.disk_errors import reading, writing
from throughtime.storage.json_text import Json, encode_json, read_json
from throughtime.storage.manifest import seal, verify

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "CheckpointStore"]

_VALUES_NAME = "values.json"
_TENSORS_SUFFIX = ".safetensors"
_ASIDE_SUFFIX = ".replaced"
_NAME = re.compile(rf"step-(\d{{9,}})({re.escape(_ASIDE_SUFFIX)})?")

_Skipped: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A verified checkpoint, in memory.

    Attributes:
        step: the training step after which it was saved.
        best_step: the step of the best checkpoint when this one was saved.
        path: its folder.
        values: what was saved as JSON.
        tensors: what was saved as tensors, by group and name, on the CPU.
        skipped: (name, reason) of every checkpoint that was preferred to this one but is damaged or absent.
    """

    step: int
    best_step: int
    path: Path
    values: dict[str, Any] = field(repr=False)
    tensors: dict[str, dict[str, torch.Tensor]] = field(repr=False)
    skipped: _Skipped = ()


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints in one folder. Saving asks for the run's lock; reading does not.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(Path(folder))
        ...     _ = store.save(10, {"model": {"bias": torch.zeros(3)}}, {"words": 640}, best_step=10)
        ...     found = store.newest()
        >>> found.step, found.values, found.tensors
        (10, {'words': 640}, {'model': {'bias': tensor([0., 0., 0.])}})
    """

    folder: Path

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
        values: Mapping[str, Json],
        *,
        best_step: int,
    ) -> Path:
        """Save a checkpoint, then remove those that no longer count.

        What remains is this one, the newest verified one before it, and those that either names as the best. Later
        steps go: they belong to a future that a resume has given up.

        Args:
            step: the training step just finished.
            tensors: by group and name; of any device, dtype, shape and strides, and they may share memory. The floating
                ones in the group "model" must be finite.
            values: everything else, as JSON.
            best_step: the step of the best checkpoint so far, at most `step`.

        Returns:
            The folder of the new checkpoint.

        Raises:
            ValueError: if `best_step` lies after `step`.
            NonFiniteError: if the model or a value holds NaN or infinity; nothing is written.
            RunError: if it cannot be written; the older checkpoints are intact.
        """
        if not 0 <= best_step <= step:
            raise ValueError(f"the best step must be one of 0 to {step}, the step saved, not {best_step}")
        _refuse_non_finite(tensors.get("model", {}), step)
        final = self.folder / _name(step)
        content: Json = {"step": step, "best_step": best_step, "values": values}
        encoded = encode_json(content, target=final / _VALUES_NAME, indent=1) + b"\n"
        make_folder(self.folder)
        sweep(self.folder)
        _step_aside(final)
        with new_folder(final) as temporary:
            for group, named in tensors.items():
                (temporary / f"{group}{_TENSORS_SUFFIX}").write_bytes(_serialised(named))
            (temporary / _VALUES_NAME).write_bytes(encoded)
            seal(temporary)
        self._prune(step, best_step)
        return final

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that verifies, or None if there is none at all.

        Raises:
            RunError: if there are checkpoints and every one is damaged.
        """
        found = self._newest_header()
        return None if found is None else _loaded(*found)

    def best(self) -> Checkpoint | None:
        """The checkpoint that the newest verified one names as the best; if that is damaged, the newest verified one.

        Raises:
            RunError: if there are checkpoints and every one is damaged.
        """
        found = self._newest_header()
        if found is None:
            return None
        newest, skipped = found
        if newest.best_step == newest.step:
            return _loaded(newest, skipped)
        named = [place for place in self._places() if place.step == newest.best_step]
        best, damaged = _first_verified(named)
        absent = () if named else ((_name(newest.best_step), "it is absent"),)
        return _loaded(best or newest, skipped + damaged + absent)

    def _newest_header(self) -> tuple[_Header, _Skipped] | None:
        newest, skipped = _first_verified(self._places())
        if newest is not None:
            return newest, skipped
        if skipped:
            reasons = "; ".join(reason for _, reason in skipped)
            raise RunError(f"no checkpoint in {self.folder} is whole: {reasons}; remove that folder to start over")
        return None

    def _places(self) -> list[_Place]:
        """Where checkpoints lie, newest step first, the one that stepped aside after the one that replaces it."""
        with reading(self.folder):
            names = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        places = [_Place(int(match[1]), match[2] is not None, self.folder / match[0]) for match in matches]
        return sorted(places, key=lambda place: (-place.step, place.aside))

    def _prune(self, step: int, best_step: int) -> None:
        places = self._places()
        before, _ = _first_verified(place for place in places if place.step < step)
        keep = {step, best_step} | ({before.step, before.best_step} if before else set())
        replaced = {place.step for place in places if not place.aside}
        for place in places:
            if place.step not in keep or (place.aside and place.step in replaced):
                remove_folder(place.path)


class _Place(NamedTuple):
    """A folder with the name of a checkpoint; nothing is known of its content."""

    step: int
    aside: bool
    path: Path


class _Header(NamedTuple):
    """A verified checkpoint whose tensors have not been read."""

    step: int
    best_step: int
    path: Path
    values: dict[str, Any]


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _step_aside(final: Path) -> None:
    """Make the name of a checkpoint free for its successor, without a moment in which none can be read."""
    if not final.exists():
        return
    try:
        verify(final)
    except RunError:
        remove_folder(final)
        return
    aside = final.with_name(f"{final.name}{_ASIDE_SUFFIX}")
    if aside.exists():
        remove_folder(aside)
    with writing(aside):
        final.rename(aside)


def _first_verified(places: Iterable[_Place]) -> tuple[_Header | None, _Skipped]:
    skipped: _Skipped = ()
    for place in places:
        try:
            verify(place.path)
            content = read_json(place.path / _VALUES_NAME)
        except RunError as error:
            skipped += ((place.path.name, str(error)),)
        else:
            return _Header(content["step"], content["best_step"], place.path, content["values"]), skipped
    return None, skipped


def _loaded(header: _Header, skipped: _Skipped) -> Checkpoint:
    from safetensors.torch import load  # here, because it imports torch

    tensors: dict[str, dict[str, torch.Tensor]] = {}
    with reading(header.path):
        for path in sorted(header.path.glob(f"*{_TENSORS_SUFFIX}")):
            # Cloned: the memory that safetensors hands out is not aligned as torch's own is, and a matrix product may
            # round differently on it. Resuming has to be exact.
            group = path.name.removesuffix(_TENSORS_SUFFIX)
            tensors[group] = {name: tensor.clone() for name, tensor in load(path.read_bytes()).items()}
    return Checkpoint(header.step, header.best_step, header.path, header.values, tensors, skipped)


def _serialised(named: Mapping[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save  # here, because it imports torch

    separate: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in named.items():
        dense = tensor.detach().cpu().contiguous()
        storage = dense.untyped_storage().data_ptr()
        separate[name] = dense.clone() if storage in seen else dense  # safetensors refuses shared memory
        seen.add(storage)
    return save(separate)


def _refuse_non_finite(model: Mapping[str, torch.Tensor], step: int) -> None:
    for name, tensor in model.items():
        bad = tensor.numel() - int(tensor.isfinite().sum())
        if bad:
            found = f"{bad} of the {tensor.numel()} numbers in {name} are NaN or infinite"
            raise NonFiniteError(f"the model of step {step} was not saved: {found}")
