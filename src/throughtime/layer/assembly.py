"""The cells of a layer, made and checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from throughtime.cell import Cell, make_cell
from throughtime.errors import RecipeError

__all__ = ["assemble"]


def assemble(
    cell: str | Callable[[int, int], Cell] | Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    num_directions: int,
    *,
    init: str | None,
    proj_size: int,
) -> list[Cell]:
    """One cell for each layer and direction: layer after layer, forward before backward.

    Raises:
        RecipeError: if `cell` is unknown, does not give such cells, or does not go with `init` or `proj_size`.
    """
    factory: Callable[[int, int], Cell]
    if isinstance(cell, str):
        factory = partial(make_cell, cell, init=init, proj_size=proj_size)
    elif init is not None or proj_size:
        raise RecipeError("init and proj_size go with the name of a cell: give them to your own cell yourself")
    elif not callable(cell):
        raise RecipeError(f"a cell must be a name, a Cell or a factory of Cells, not {cell!r}")
    else:
        factory = (lambda *_: cell) if isinstance(cell, Cell) else cell

    cells: list[Cell] = []
    for index in range(num_layers * num_directions):
        below = cells[-1].output_size * num_directions if index >= num_directions else input_size
        made = factory(below, hidden_size)
        _check_made(made, below, hidden_size, cells)
        cells.append(made)
    return cells


def _check_made(cell: object, input_size: int, hidden_size: int, before: list[Cell]) -> None:
    """Refuse what a user's factory made, if it cannot go on top of the cells made before."""
    if not isinstance(cell, Cell):
        raise RecipeError(f"a factory of cells must give Cell objects, not {type(cell).__name__}")
    if (cell.input_size, cell.hidden_size) != (input_size, hidden_size):
        raise RecipeError(
            f"the cell must have input_size {input_size} and hidden_size {hidden_size}, "
            f"not {cell.input_size} and {cell.hidden_size}"
        )
    if before and any(cell is other for other in before):
        raise RecipeError(
            "one cell object serves one layer in one direction: for more give a factory, such as its class"
        )
    shapes = [part.shape for part in cell.initial_state(1)]
    if len(shapes) != len(cell.state_names):
        raise RecipeError(f"initial_state of {type(cell).__name__} must give one tensor for each of {cell.state_names}")
    if before and shapes != [part.shape for part in before[0].initial_state(1)]:
        raise RecipeError(f"all layers of {type(cell).__name__} must have states of one shape, to be stacked")
