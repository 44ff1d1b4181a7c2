"""How a cell is trained on a task: its sizes, its start, and what follows from the lag, which is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from throughtime.cell import (
    GRU,
    LRU,
    LSTM,
    MLSTM,
    SLSTM,
    Cell,
    CoRNN,
    CoupledLSTM,
    GatedDeltaNet,
    IndRNN,
    MinGRU,
    MinLSTM,
    cells,
)
from throughtime.check import one_of
from throughtime.errors import RecipeError
from throughtime.tasks import Task

__all__ = ["BASELINES", "DEFAULT_CELLS", "Setting", "contenders", "kind_of", "setting_for", "shortest_length"]

BASELINES = ("torch-rnn", "torch-lstm")
"""Torch's own modules as they come: their own start, and whole sequences from the first step."""

DEFAULT_CELLS = (*BASELINES, "orthogonal", "lstm", "indrnn", "lru", "mingru", "gated-deltanet")

_UNENDING = 100
"""Lengths for which a start is to hold where everything counts, so that nothing may fade."""

_SHORTEST = 3
"""Steps with which a curriculum begins, where the task can be that short."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and how.

    Attributes:
        cell: one of `contenders()`.
        options: what the cell's class is given, its start above all.
        hidden_size: H.
        num_layers: L.
        mapped: whether a ReLU layer lies before the cell and another behind it: a linear recurrence cannot multiply.
        batch_size: B.
        learning_rate: of Adam.
        eigenvalue_rate: by what the learning rate of an LRU's eigenvalues is multiplied: the loss is far more sensitive
            to them than to any other weight (Zucchet & Orvieto 2024, arXiv:2405.21064).
        clip: the largest norm of a gradient that is applied.
        shortest: the length with which a curriculum begins; None for whole sequences from the first step.
    """

    cell: str
    options: dict[str, Any] = field(default_factory=dict)
    hidden_size: int = 128
    num_layers: int = 1
    mapped: bool = False
    batch_size: int = 32
    learning_rate: float = 1e-3
    eigenvalue_rate: float = 1.0
    clip: float = 1.0
    shortest: int | None = None

    @property
    def words(self) -> str:
        """What is not as it would be without a prescription, for a table."""
        start = ", ".join(
            f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.options.items()
        )
        grown = "" if self.shortest is None else f"from {self.shortest} steps on"
        return "; ".join(part for part in (start, grown) if part)


def contenders() -> tuple[str, ...]:
    """Every name that `setting_for` takes."""
    return (*BASELINES, *(info.name for info in cells()))


def setting_for(cell: str, task: Task) -> Setting:
    """What follows from a task whose need is known, before anything is trained.

    Args:
        cell: one of `contenders()`.
        task: at its full length.

    Returns:
        For a baseline what is written first; for a cell its start for that lag, and a curriculum over length.

    Raises:
        RecipeError: if the cell is unknown.
    """
    one_of("cell", cell, contenders())
    if cell in BASELINES:
        return Setting(cell=cell)
    lag = max(2, _UNENDING * task.length if task.need is None else task.need)
    options = _STARTS[cell](lag) if cell in _STARTS else {}
    rest: dict[str, Any] = {"learning_rate": 3e-3, "options": options, "shortest": shortest_length(task)}
    setting = Setting(cell=cell, **(rest | _RESTS.get(cell, {})))
    return replace(setting, **_OF_TASKS.get((task.name, cell), {}))


def kind_of(cell: str) -> type[Cell] | str:
    """The class where options are to be given, else the name."""
    return _KINDS.get(cell, cell)


def shortest_length(task: Task) -> int | None:
    """The shortest length that is worth training on and that the task allows; None if it is that short already."""
    return next((length for length in range(_SHORTEST, task.length) if _can_be(task, length)), None)


def _can_be(task: Task, length: int) -> bool:
    try:
        replace(task, length=length)
    except RecipeError:
        return False
    return True


def _chrono(lag: int) -> dict[str, Any]:
    return {"init": "chrono", "max_lag": max(2, lag)}


def _ring(lag: int) -> dict[str, Any]:
    """Of what a unit holds, between 10 % and 99 % are left after the lag."""
    return {"r_min": 0.1 ** (1 / lag), "r_max": 0.99 ** (1 / lag)}


_KINDS: Mapping[str, type[Cell]] = {
    "gru": GRU,
    "lstm": LSTM,
    "coupled-lstm": CoupledLSTM,
    "slstm": SLSTM,
    "mlstm": MLSTM,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "gated-deltanet": GatedDeltaNet,
    "indrnn": IndRNN,
    "lru": LRU,
    "cornn": CoRNN,
}
# Not the gated cells whose gates see the state: with a curriculum they learn faster from a forget bias of 1. An LSTM
# solved adding at 1,000 steps in 59 s so, and did not in 120 s with chrono, whose input gates begin almost closed.
_STARTS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    **dict.fromkeys(("slstm", "mlstm", "mingru", "minlstm", "gated-deltanet"), _chrono),
    "indrnn": lambda lag: {"init": "long", "max_lag": lag},
    "lru": _ring,
}
_RESTS: Mapping[str, dict[str, Any]] = {
    "lru": {"mapped": True, "eigenvalue_rate": 0.05},
    "mingru": {"mapped": True},
    "minlstm": {"mapped": True},
    "mlstm": {"mapped": True},
    "gated-deltanet": {"mapped": True},
    "indrnn": {"num_layers": 2},
}
_WIDE = {"hidden_size": 256, "batch_size": 64}
"""For sixteen symbols that have to be shifted through the state."""
_READ_OUT = {"mapped": False, "learning_rate": 1e-2, "eigenvalue_rate": 0.01, "shortest": None}
"""Copying asks for the same places always: units of many phases hold them from the start, a linear map finds them."""
_OF_TASKS: Mapping[tuple[str, str], dict[str, Any]] = {
    ("copying", "lru"): _READ_OUT,
    **{("selective-copying", cell): _WIDE for cell in ("gru", "lstm", "coupled-lstm")},
}
