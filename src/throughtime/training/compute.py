"""Where and how numbers are computed: "auto" settled into a device, a number of threads and a precision."""

from __future__ import annotations

import ctypes
import platform
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from throughtime.errors import RecipeError
from throughtime.recipe import Compute

__all__ = ["Settled", "keep_large_blocks", "settle"]

KEEP_BLOCKS_BELOW_BYTES = 1 << 30


@dataclass(frozen=True)
class Settled:
    """What `Compute` comes to on this machine.

    Attributes:
        device: "cpu" or "cuda".
        threads: threads of this process.
        precision: "float32" or "bfloat16".
        why: the reason for the precision, in words.
    """

    device: str
    threads: int
    precision: str
    why: str

    @property
    def matmul_dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def settle(compute: Compute) -> Settled:
    """Settle "auto", and set torch's threads.

    Raises:
        RecipeError: if CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if compute.device == "cuda" and not available:
        raise RecipeError("device 'cuda' was asked for, and torch sees no such device: use --device cpu or auto")
    device = "cuda" if available and compute.device != "cpu" else "cpu"
    if compute.threads:
        torch.set_num_threads(compute.threads)
    if device == "cpu":
        keep_large_blocks()
    precision, why = (compute.precision, "as asked") if compute.precision != "auto" else _precision(device)
    return Settled(device, torch.get_num_threads(), precision, why)


def _precision(device: str) -> tuple[str, str]:
    """bfloat16 for the softmax where the hardware multiplies it at least 1.5 times as fast, measured."""
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16", "this GPU has it") if fast else ("float32", "this GPU has no bfloat16")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "float32", "this CPU has no bfloat16"
    ratio = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    if ratio >= 1.5:
        return "bfloat16", f"measured {ratio:.1f} times as fast as float32"
    return "float32", f"bfloat16 was measured at {ratio:.1f} times the speed of float32"


def _product_seconds(dtype: torch.dtype) -> float:
    features, words = torch.ones(512, 256, dtype=dtype), torch.ones(4096, 256, dtype=dtype)
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        F.linear(features, words)
        best = min(best, time.perf_counter() - begin)
    return best


def keep_large_blocks() -> None:
    """Ask glibc to reuse large blocks: fresh ones cost a page fault every 4 KiB, a fifth of a training step."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, KEEP_BLOCKS_BELOW_BYTES)
        mallopt(m_trim_threshold, KEEP_BLOCKS_BELOW_BYTES)
