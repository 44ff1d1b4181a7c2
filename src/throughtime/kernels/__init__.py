"""Compiled loops over time, written in C++ behind a plain C ABI, and their Python face."""

from throughtime.kernels.binding import absence, library
from throughtime.kernels.linear import linear_scan
from throughtime.kernels.operators import scan
from throughtime.kernels.spec import KernelSpec

__all__ = ["KernelSpec", "absence", "library", "linear_scan", "scan"]
