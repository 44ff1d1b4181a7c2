"""Cells: what happens in one time step, one family a file, each from the equations of its paper."""

from throughtime.cell.antisymmetric import AntisymmetricRNN
from throughtime.cell.base import Cell
from throughtime.cell.cornn import CoRNN
from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.delta_net import GatedDeltaNet
from throughtime.cell.diagonal import DiagonalCell
from throughtime.cell.elman import Elman
from throughtime.cell.gru import GRU
from throughtime.cell.indrnn import IndRNN
from throughtime.cell.layer_norm_lstm import LayerNormLSTM
from throughtime.cell.lem import LEM
from throughtime.cell.lru import LRU
from throughtime.cell.lstm import LSTM
from throughtime.cell.mingru import MinGRU
from throughtime.cell.minlstm import MinLSTM
from throughtime.cell.mlstm import MLSTM
from throughtime.cell.mogrifier import MogrifierLSTM
from throughtime.cell.orthogonal import OrthogonalRNN
from throughtime.cell.qrnn import QRNN
from throughtime.cell.recurrent_dropout import RecurrentDropout
from throughtime.cell.registry import CellInfo, cells, make_cell
from throughtime.cell.skip_in_time import SkipInTime
from throughtime.cell.slstm import SLSTM
from throughtime.cell.sru import SRU
from throughtime.cell.state_norm import StateNorm
from throughtime.cell.zoneout import Zoneout

__all__ = [
    "AntisymmetricRNN",
    "CoRNN",
    "DiagonalCell",
    "IndRNN",
    "LEM",
    "LRU",
    "MinGRU",
    "MinLSTM",
    "OrthogonalRNN",
    "QRNN",
    "SRU",
    "Cell",
    "CellInfo",
    "CoupledLSTM",
    "Elman",
    "GRU",
    "GatedDeltaNet",
    "LSTM",
    "LayerNormLSTM",
    "MLSTM",
    "MogrifierLSTM",
    "RecurrentDropout",
    "SkipInTime",
    "SLSTM",
    "StateNorm",
    "Zoneout",
    "cells",
    "make_cell",
]
