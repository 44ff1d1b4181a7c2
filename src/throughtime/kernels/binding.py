"""The compiled library: where it is, what it can do, and one call of it.

It is optional. Without it (no compiler when the package was installed) `loop` and torch's own kernels serve.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Library", "Linear", "LoopShape", "Problem", "absence", "library"]

MAX_STATES, MAX_WEIGHTS, MAX_CONSTANTS = 4, 16, 8
_LARGE_BYTES = 1 << 22
_ALREADY_LOADED = ctypes.DEFAULT_MODE | getattr(os, "RTLD_NOLOAD", 0)
_VARIABLE = "THROUGHTIME_NATIVE"
"""Names another file to load, or "off"."""


class Problem(ctypes.Structure):
    """`struct Problem` of native/problem.h, field for field."""

    _fields_ = (
        ("steps", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("units", ctypes.c_int64),
        ("input_size", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("double_precision", ctypes.c_int64),
        ("keep", ctypes.c_int64),
        ("num_weights", ctypes.c_int64),
        ("constants", ctypes.c_double * MAX_CONSTANTS),
        ("weights", ctypes.c_void_p * MAX_WEIGHTS),
        ("projected", ctypes.c_void_p),
        ("start", ctypes.c_void_p * MAX_STATES),
        ("fresh", ctypes.c_void_p * MAX_STATES),
        ("reset", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("final_state", ctypes.c_void_p * MAX_STATES),
        ("before", ctypes.c_void_p * MAX_STATES),
        ("saved", ctypes.c_void_p),
        ("d_outputs", ctypes.c_void_p),
        ("d_final_state", ctypes.c_void_p * MAX_STATES),
        ("d_start", ctypes.c_void_p * MAX_STATES),
        ("d_projected", ctypes.c_void_p),
        ("d_recurrent", ctypes.c_void_p),
    )


class Linear(ctypes.Structure):
    """`struct Linear` of native/linear.h, field for field."""

    _fields_ = (
        ("steps", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("double_precision", ctypes.c_int64),
        ("complex_numbers", ctypes.c_int64),
        ("constant_a", ctypes.c_int64),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
        ("d_states", ctypes.c_void_p),
        ("d_a", ctypes.c_void_p),
        ("d_b", ctypes.c_void_p),
        ("d_start", ctypes.c_void_p),
    )


class _Shape(ctypes.Structure):
    """`struct Shape` of native/problem.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("states", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("recurrent_blocks", ctypes.c_int64),
        ("saved", ctypes.c_int64),
    )


@dataclass(frozen=True)
class LoopShape:
    """How many blocks of H a compiled loop has.

    Attributes:
        states: in its state.
        blocks: in what the input is projected to.
        recurrent_blocks: in the gradient by its recurrent products; 0 where that is the one by the projected input.
        saved: in what it keeps of a step for the backward pass.
    """

    states: int
    blocks: int
    recurrent_blocks: int
    saved: int


class Library:
    """A loaded library.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        instruction_set: that it uses on this processor.
        loops: their shapes, by name.

    Raises:
        OSError: if it cannot be loaded, or was built from other source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for size, structure in (("throughtime_problem_bytes", Problem), ("throughtime_linear_bytes", Linear)):
            getattr(self._library, size).restype = ctypes.c_int64
            if getattr(self._library, size)() != ctypes.sizeof(structure):
                raise OSError(f"{path} was built from other source than this package: install the package again")
        self._library.throughtime_instruction_set.restype = ctypes.c_char_p
        self.instruction_set: str = self._library.throughtime_instruction_set().decode()
        self._library.throughtime_loop.restype = ctypes.POINTER(_Shape)
        self.loops: Mapping[str, LoopShape] = dict(self._shapes())
        self._library.throughtime_use_team.argtypes = (ctypes.c_void_p,)
        self._library.throughtime_use_team(_openmp_entry())
        self._advise = self._library.throughtime_advise
        self._advise.argtypes = (ctypes.c_void_p, ctypes.c_int64)
        self._advise.restype = None
        self._run = self._library.throughtime_run
        self._run.argtypes = (ctypes.c_char_p, ctypes.POINTER(Problem), ctypes.c_int)
        self._run.restype = ctypes.c_int
        self._run_linear = self._library.throughtime_run_linear
        self._run_linear.argtypes = (ctypes.POINTER(Linear), ctypes.c_int)
        self._run_linear.restype = ctypes.c_int

    def run(self, loop: str, problem: Problem, *, backward: bool) -> None:
        """Run a loop over the arrays that `problem` points to, which the caller keeps alive; the GIL is released.

        Raises:
            MemoryError: if there is no memory for its scratch arrays.
        """
        code = self._run(loop.encode(), ctypes.byref(problem), backward)
        if code == -1:
            raise MemoryError(f"no memory for the scratch arrays of the compiled loop '{loop}'")
        assert code == 0, f"the library has no loop '{loop}'"

    def run_linear(self, problem: Linear, *, backward: bool) -> None:
        """Run the linear recurrence over the arrays that `problem` points to; as `run`.

        Raises:
            MemoryError: if there is no memory for its scratch arrays.
        """
        if self._run_linear(ctypes.byref(problem), backward):
            raise MemoryError("no memory for the scratch arrays of the compiled linear recurrence")

    def advise(self, tensor: Tensor) -> None:
        """Say that `tensor` is about to be written as a whole: if it is large, it then comes in large pages."""
        if tensor.nbytes >= _LARGE_BYTES:
            self._advise(tensor.data_ptr(), tensor.nbytes)

    def _shapes(self) -> list[tuple[str, LoopShape]]:
        found, index = [], 0
        while pointer := self._library.throughtime_loop(index):
            shape = pointer.contents
            found.append(
                (shape.name.decode(), LoopShape(shape.states, shape.blocks, shape.recurrent_blocks, shape.saved))
            )
            index += 1
        return found


def _openmp_entry() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP runtime that torch was loaded with; None without one."""
    folder = Path(torch.__file__).parent
    bundled = sorted(path for place in ("lib", "../torch.libs") for path in (folder / place).glob("lib*omp*"))
    for candidate in (None, *map(str, bundled)):
        try:
            entry = ctypes.CDLL(candidate, mode=_ALREADY_LOADED).GOMP_parallel
        except (OSError, AttributeError, TypeError):
            continue
        return ctypes.cast(entry, ctypes.c_void_p).value
    return None


@cache
def _loaded() -> Library | str:
    """The library, or why there is none."""
    wanted = os.environ.get(_VARIABLE, "")
    if wanted == "off":
        return f"it is switched off ({_VARIABLE}=off)"
    folder = Path(__file__).parent
    paths = [Path(wanted)] if wanted else [folder / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]
    for path in paths:
        if path.exists():
            try:
                return Library(path)
            except OSError as error:
                return str(error)
    return "it was not built: there was no C++ compiler when the package was installed"


def library() -> Library | None:
    """The compiled library; None when there is none, and `absence` says why."""
    found = _loaded()
    return found if isinstance(found, Library) else None


def absence() -> str | None:
    """Why there is no compiled library, or None if there is one."""
    found = _loaded()
    return found if isinstance(found, str) else None
