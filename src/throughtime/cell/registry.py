"""The cells that have a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from throughtime.cell.antisymmetric import AntisymmetricRNN
from throughtime.cell.base import Cell
from throughtime.cell.cornn import CoRNN
from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.delta_net import GatedDeltaNet
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
from throughtime.cell.slstm import SLSTM
from throughtime.cell.sru import SRU
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


def _entry(kind: type[Cell], summary: str, reference: str, **options: Any) -> _Entry:
    return _Entry(partial(kind, **options) if options else kind, kind.inits, summary, reference)


_ENTRIES: dict[str, _Entry] = {
    "elman": _entry(Elman, "plain recurrent cell, tanh", "Elman 1990, doi:10.1207/s15516709cog1402_1"),
    "elman-relu": _entry(
        Elman,
        "plain recurrent cell, ReLU; init='identity' makes it the IRNN",
        "Le et al. 2015, arXiv:1504.00941",
        nonlinearity="relu",
    ),
    "orthogonal": _entry(
        OrthogonalRNN,
        "Elman cell whose recurrent matrix stays orthogonal",
        "Helfrich, Willmott & Ye 2018, arXiv:1707.09520",
    ),
    "antisymmetric": _entry(
        AntisymmetricRNN,
        "steps of a differential equation that neither decays nor explodes",
        "Chang et al. 2019, arXiv:1902.09689",
    ),
    "antisymmetric-gated": _entry(
        AntisymmetricRNN, "the same with a gate", "Chang et al. 2019, arXiv:1902.09689", gated=True
    ),
    "indrnn": _entry(IndRNN, "units that see their own past alone, ReLU", "Li et al. 2018, arXiv:1803.04831"),
    "cornn": _entry(CoRNN, "damped, driven, coupled oscillators", "Rusch & Mishra 2021, arXiv:2010.00951"),
    "lem": _entry(LEM, "two states that move at many speeds", "Rusch et al. 2022, arXiv:2110.04744"),
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
    "lru": _entry(LRU, "linear recurrence of complex units, ring start", "Orvieto et al. 2023, arXiv:2303.06349"),
    "mingru": _entry(MinGRU, "GRU whose gate sees the input alone", "Feng et al. 2024, arXiv:2410.01201"),
    "minlstm": _entry(MinLSTM, "LSTM whose gates see the input alone", "Feng et al. 2024, arXiv:2410.01201"),
    "qrnn": _entry(QRNN, "gates that see the last two inputs, and no state", "Bradbury et al. 2017, arXiv:1611.01576"),
    "sru": _entry(SRU, "gates that see their own unit's memory, with a highway", "Lei et al. 2018, arXiv:1709.02755"),
    "mlstm": _entry(MLSTM, "LSTM whose memory is a matrix of keys and values", "Beck et al. 2024, arXiv:2405.04517"),
    "gated-deltanet": _entry(
        GatedDeltaNet,
        "matrix memory that replaces what a key held, with decay and negative eigenvalues",
        "Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464",
    ),
}


def cells() -> tuple[CellInfo, ...]:
    """Every named cell.

    Returns:
        Of each its name, summary, reference and initialisations, in the order of the list in `docs/cells.md`.

    Example:
        >>> [info.name for info in cells()][:3]
        ['elman', 'elman-relu', 'orthogonal']
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
