"""The compiled library: where it is, what it can do, and one call of it.

It is optional. Without it (no compiler when the package was installed) `loop` and torch's own kernels serve.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

from throughtime.kernels.spec import MAX_WEIGHTS

__all__ = ["CrossEntropy", "Dense", "Library", "Linear", "Mixed", "Problem", "Widths", "absence", "library"]

MAX_STATES, MAX_CONSTANTS = 4, 8
_INTERFACE = 7
"""`INTERFACE` of native/problem.h."""

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
        ("d_vectors", ctypes.c_void_p),
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


class Dense(ctypes.Structure):
    """`struct Dense` of native/dense.h, field for field."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        ("add", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("double_precision", ctypes.c_int64),
        ("left_stride", ctypes.c_int64),
        ("right_stride", ctypes.c_int64),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
    )


class Mixed(ctypes.Structure):
    """`struct Mixed` of native/mixed.h, field for field."""

    _fields_ = (
        ("steps", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("units", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("projected", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("h", ctypes.c_void_p),
        ("c", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("before", ctypes.c_void_p),
        ("gates", ctypes.c_void_p),
        ("cells", ctypes.c_void_p),
        ("d_outputs", ctypes.c_void_p),
        ("d_h", ctypes.c_void_p),
        ("d_c", ctypes.c_void_p),
        ("d_gates", ctypes.c_void_p),
        ("d_bias", ctypes.c_void_p),
    )


class CrossEntropy(ctypes.Structure):
    """`struct CrossEntropy` of native/cross_entropy.h, field for field."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("offset", ctypes.c_void_p),
        ("targets", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
        ("d_offset", ctypes.c_void_p),
        ("losses", ctypes.c_void_p),
    )


class _Widths(ctypes.Structure):
    """`struct Widths` of native/problem.h."""

    _fields_ = (
        ("projected", ctypes.c_int64),
        ("recurrent", ctypes.c_int64),
        ("saved", ctypes.c_int64),
        ("output_is_state", ctypes.c_int64),
        ("vectors", ctypes.c_int64),
        ("backward_reads_projected", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Widths:
    """Numbers a row in the arrays of a compiled loop.

    Attributes:
        projected: in what the input is projected to.
        recurrent: in the gradient by its recurrent products; 0 where that is the one by the projected input.
        saved: in what it keeps of a step for the backward pass.
        output_is_state: whether the output of a step is the first part of the state after it.
        vectors: in the gradient by vectors among its weights, of each sequence.
        backward_reads_projected: whether its way back wants what the input was projected to.
    """

    projected: int
    recurrent: int
    saved: int
    output_is_state: bool
    vectors: int
    backward_reads_projected: bool


class Library:
    """A loaded library.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        instruction_set: that it uses on this processor.
        loops: their names.
        mixed: whether it computes in mixed precision on this processor.
        mixed_is_fast: whether its loop is then faster than torch's bfloat16 products, step by step.

    Raises:
        OSError: if it cannot be loaded, or was built from other source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._refuse_other_source()
        self._library.throughtime_instruction_set.restype = ctypes.c_char_p
        self.instruction_set: str = self._library.throughtime_instruction_set().decode()
        self._library.throughtime_loop.restype = ctypes.c_char_p
        self.loops: frozenset[str] = frozenset(self._names())
        self._widths = self._library.throughtime_widths
        self._widths.argtypes = (ctypes.c_char_p, ctypes.POINTER(Problem), ctypes.POINTER(_Widths))
        self._widths.restype = ctypes.c_int
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
        self._run_dense = self._library.throughtime_run_dense
        self._run_dense.argtypes = (ctypes.POINTER(Dense), ctypes.c_int)
        self._run_dense.restype = ctypes.c_int
        self._run_mixed = self._library.throughtime_run_mixed
        self._run_mixed.argtypes = (ctypes.POINTER(Mixed), ctypes.c_int)
        self._run_mixed.restype = ctypes.c_int
        self._run_cross_entropy = self._library.throughtime_run_cross_entropy
        self._run_cross_entropy.argtypes = (ctypes.POINTER(CrossEntropy),)
        self._run_cross_entropy.restype = ctypes.c_int
        found = self._library.throughtime_mixed()
        self.mixed, self.mixed_is_fast = found > 0, found == 1

    def widths(self, loop: str, problem: Problem) -> Widths:
        """How wide the arrays of a loop are, for the sizes and constants of `problem`."""
        found = _Widths()
        code = self._widths(loop.encode(), ctypes.byref(problem), ctypes.byref(found))
        assert code == 0, f"the library has no loop '{loop}'"
        return Widths(
            found.projected,
            found.recurrent,
            found.saved,
            bool(found.output_is_state),
            found.vectors,
            bool(found.backward_reads_projected),
        )

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

    def run_dense(self, problems: Sequence[Dense]) -> None:
        """Multiply the matrices that problems of one precision point to; as `run`.

        Raises:
            MemoryError: if there is no memory for its scratch arrays.
        """
        if self._run_dense((Dense * len(problems))(*problems), len(problems)):
            raise MemoryError("no memory for the scratch arrays of a product of matrices")

    def run_mixed(self, problem: Mixed, *, backward: bool) -> None:
        """Run the LSTM in mixed precision over the arrays that `problem` points to; as `run`.

        Raises:
            MemoryError: if there is no memory for its scratch arrays.
        """
        _check(self._run_mixed(ctypes.byref(problem), backward))

    def run_cross_entropy(self, problem: CrossEntropy) -> None:
        """Put the gradient of a cross-entropy in the place of its logits; as `run`.

        Raises:
            MemoryError: if there is no memory for its scratch arrays.
        """
        _check(self._run_cross_entropy(ctypes.byref(problem)))

    def advise(self, tensor: Tensor) -> None:
        """Say that `tensor` is about to be written as a whole: if it is large, it then comes in large pages."""
        if tensor.nbytes >= _LARGE_BYTES:
            self._advise(tensor.data_ptr(), tensor.nbytes)

    def _refuse_other_source(self) -> None:
        expected = {
            "throughtime_interface": _INTERFACE,
            "throughtime_problem_bytes": ctypes.sizeof(Problem),
            "throughtime_linear_bytes": ctypes.sizeof(Linear),
            "throughtime_dense_bytes": ctypes.sizeof(Dense),
            "throughtime_mixed_bytes": ctypes.sizeof(Mixed),
            "throughtime_cross_entropy_bytes": ctypes.sizeof(CrossEntropy),
        }
        for name, number in expected.items():
            asked = getattr(self._library, name, None)
            if asked is not None:
                asked.restype = ctypes.c_int64
            if asked is None or asked() != number:
                raise OSError(f"{self.path} was built from other source than this package: install the package again")

    def _names(self) -> list[str]:
        found: list[str] = []
        while name := self._library.throughtime_loop(len(found)):
            found.append(name.decode())
        return found


def _check(code: int) -> None:
    """Of what computes in mixed precision."""
    if code == -1:
        raise MemoryError("no memory for the scratch arrays of what is computed in mixed precision")
    assert code == 0, "the caller has seen that the library computes in mixed precision here"


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


def _load() -> Library | str:
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


_FOUND = _load()
"""Looked for once, when this module is imported: `torch.compile` could not trace the search."""


def library() -> Library | None:
    """The compiled library; None when there is none, and `absence` says why."""
    return _FOUND if isinstance(_FOUND, Library) else None


def absence() -> str | None:
    """Why there is no compiled library, or None if there is one."""
    return _FOUND if isinstance(_FOUND, str) else None
