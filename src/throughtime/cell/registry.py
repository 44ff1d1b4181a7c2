"""The cells that have a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from throughtime.cell.base import Cell
from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.delta_net import GatedDeltaNet
from throughtime.cell.elman import Elman
from throughtime.cell.gru import GRU
from throughtime.cell.layer_norm_lstm import LayerNormLSTM
from throughtime.cell.lstm import LSTM
from throughtime.cell.mlstm import MLSTM
from throughtime.cell.mogrifier import MogrifierLSTM
from throughtime.cell.slstm import SLSTM
from throughtime.check import one_of
from throughtime.errors import RecipeError

__all__ = ["CellInfo", "cells", "make_cell"]


@dataclass(frozen=True)
class CellInfo:
    """What there is to know about a named cell before one is made.

    Attributes:
        name: as `Recurrent` and `--cell` take it.
        summary: one line.
        reference: authors, year, where.
        inits: names of its initialisations, the default first.
    """

    name: str
    summary: str
    reference: str
    inits: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """A name's cell: its class, and the choices that the name stands for."""

    kind: Callable[..., Cell]
    inits: tuple[str, ...]
    summary: str
    reference: str


def _entry(kind: type[Cell], summary: str, reference: str) -> _Entry:
    return _Entry(kind, kind.inits, summary, reference)


_ENTRIES: dict[str, _Entry] = {
    "elman": _entry(Elman, "plain recurrent cell, tanh", "Elman 1990, doi:10.1207/s15516709cog1402_1"),
    "gru": _entry(GRU, "gated recurrent unit, as torch.nn.GRU", "Cho et al. 2014, arXiv:1406.1078"),
    "lstm": _entry(
        LSTM,
        "long short-term memory with a forget gate, as torch.nn.LSTM",
        "Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735",
    ),
    "coupled-lstm": _entry(
        CoupledLSTM, "LSTM whose input gate is one minus its forget gate", "Greff et al. 2015, arXiv:1503.04069"
    ),
    "layer-norm-lstm": _entry(
        LayerNormLSTM, "LSTM with layer-normalised sums and memory", "Ba, Kiros & Hinton 2016, arXiv:1607.06450"
    ),
    "mogrifier-lstm": _entry(
        MogrifierLSTM,
        "LSTM whose input and state gate one another first",
        "Melis, Kočiský & Blunsom 2020, arXiv:1909.01792",
    ),
    "slstm": _entry(SLSTM, "LSTM with exponential gates and a normalised memory", "Beck et al. 2024, arXiv:2405.04517"),
    "mlstm": _entry(MLSTM, "LSTM whose memory is a matrix of keys and values", "Beck et al. 2024, arXiv:2405.04517"),
    "gated-deltanet": _entry(
        GatedDeltaNet,
        "matrix memory that replaces what a key held, with decay and negative eigenvalues",
        "Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464",
    ),
}


def cells() -> tuple[CellInfo, ...]:
    """Every named cell.

    Example:
        >>> [info.name for info in cells()][:3]
        ['elman', 'gru', 'lstm']
    """
    return tuple(CellInfo(name, entry.summary, entry.reference, inits=entry.inits) for name, entry in _ENTRIES.items())


def make_cell(name: str, input_size: int, hidden_size: int, *, init: str | None = None, proj_size: int = 0) -> Cell:
    """A cell by its name.

    Args:
        name: one of `cells()`.
        input_size: I.
        hidden_size: H.
        init: one of the cell's `inits`; the first unless given.
        proj_size: features to which an LSTM's output is projected; 0 for none.

    Returns:
        The cell, with parameters drawn.

    Raises:
        RecipeError: if `name` or `init` is unknown, a size is out of range, or the cell has no projection.

    Example:
        >>> make_cell("lstm", 3, 5)
        LSTM(3, 5)
    """
    entry = _ENTRIES[one_of("cell", name, _ENTRIES)]
    if entry.kind is LSTM:
        return LSTM(input_size, hidden_size, proj_size=proj_size, init=init)
    if proj_size:
        raise RecipeError(f"cell '{name}' has no projection: leave proj_size at 0, or choose lstm")
    return entry.kind(input_size, hidden_size, init=init)
