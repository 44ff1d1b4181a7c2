"""Compiled loops over time, written in C++ behind a plain C ABI, and their Python face."""

from throughtime.kernels.binding import absence, library
from throughtime.kernels.cross_entropy import cross_entropy_
from throughtime.kernels.dense import CompiledLinear
from throughtime.kernels.linear import linear_scan
from throughtime.kernels.mixed import mixed_lstm, mixed_lstm_backward
from throughtime.kernels.operators import scan
from throughtime.kernels.spec import KernelSpec

__all__ = [
    "CompiledLinear",
    "KernelSpec",
    "absence",
    "cross_entropy_",
    "library",
    "linear_scan",
    "mixed_lstm",
    "mixed_lstm_backward",
    "scan",
]
