"""Cells: what happens in one time step, one family a file, each from the equations of its paper."""

from throughtime.cell.base import Cell
from throughtime.cell.elman import Elman
from throughtime.cell.gru import GRU
from throughtime.cell.lstm import LSTM
from throughtime.cell.registry import CellInfo, cells, make_cell

__all__ = ["Cell", "CellInfo", "Elman", "GRU", "LSTM", "cells", "make_cell"]
