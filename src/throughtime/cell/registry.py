"""The cells that have a name."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.cell.base import Cell
from throughtime.cell.elman import Elman
from throughtime.cell.gru import GRU
from throughtime.cell.lstm import LSTM
from throughtime.cell.torch_layout import TorchLayoutCell
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


_CLASSES: dict[str, type[TorchLayoutCell]] = {"elman": Elman, "gru": GRU, "lstm": LSTM}
_SUMMARIES: dict[str, tuple[str, str]] = {
    "elman": ("plain recurrent cell, tanh", "Elman 1990, doi:10.1207/s15516709cog1402_1"),
    "gru": ("gated recurrent unit, as torch.nn.GRU", "Cho et al. 2014, arXiv:1406.1078"),
    "lstm": (
        "long short-term memory with a forget gate, as torch.nn.LSTM",
        "Hochreiter & Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735",
    ),
}


def cells() -> tuple[CellInfo, ...]:
    """Every named cell, simplest first.

    Example:
        >>> [info.name for info in cells()]
        ['elman', 'gru', 'lstm']
    """
    return tuple(CellInfo(name, *_SUMMARIES[name], inits=kind.inits) for name, kind in _CLASSES.items())


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
    kind = _CLASSES[one_of("cell", name, _CLASSES)]
    if kind is LSTM:
        return LSTM(input_size, hidden_size, proj_size=proj_size, init=init)
    if proj_size:
        raise RecipeError(f"cell '{name}' has no projection: leave proj_size at 0, or choose lstm")
    return kind(input_size, hidden_size, init=init)
