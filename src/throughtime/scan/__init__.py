"""Scans: how a cell's steps are run along time; every scan gives the same numbers as the plain loop."""

from throughtime.scan.auto import OBSTACLES, SCANS, Choice, choose, run
from throughtime.scan.checkpoint import checkpoint
from throughtime.scan.chunkwise import chunkwise, chunkwise_obstacle
from throughtime.scan.compiled import compiled, compiled_obstacle
from throughtime.scan.contract import ScanCell, State
from throughtime.scan.diagonal import diagonal, diagonal_obstacle
from throughtime.scan.fused import fused
from throughtime.scan.loop import loop
from throughtime.scan.mixed import mixed, mixed_obstacle

__all__ = [
    "Choice",
    "OBSTACLES",
    "SCANS",
    "ScanCell",
    "State",
    "checkpoint",
    "choose",
    "chunkwise",
    "chunkwise_obstacle",
    "compiled",
    "compiled_obstacle",
    "diagonal",
    "diagonal_obstacle",
    "fused",
    "loop",
    "mixed",
    "mixed_obstacle",
    "run",
]
