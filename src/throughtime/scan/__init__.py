"""Scans: how a cell's steps are run along time; every scan gives the same numbers as the plain loop."""

from throughtime.scan.auto import SCANS, Choice, choose, run
from throughtime.scan.contract import ScanCell, State
from throughtime.scan.fused import fused
from throughtime.scan.loop import loop
from throughtime.scan.mixed import mixed, mixed_obstacle

__all__ = ["Choice", "SCANS", "ScanCell", "State", "choose", "fused", "loop", "mixed", "mixed_obstacle", "run"]
