"""Weights from and to torch.nn.RNN, GRU and LSTM: the layouts agree, so conversion is a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from throughtime.cell import GRU, LSTM, Cell, Elman
from throughtime.errors import RecipeError

__all__ = ["cell_factory", "copy_from_torch", "holds_weights_of", "torch_module"]

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def cell_factory(module: nn.RNNBase) -> Callable[[int, int], Cell]:
    """What makes the cells of a layer that is to compute what `module` computes.

    Raises:
        RecipeError: if there is no such cell.
    """
    if isinstance(module, nn.LSTM):
        return partial(LSTM, bias=module.bias, proj_size=module.proj_size, init="torch")
    if isinstance(module, nn.GRU):
        return partial(GRU, bias=module.bias, init="torch")
    if isinstance(module, nn.RNN):
        return partial(Elman, nonlinearity=module.nonlinearity, bias=module.bias, init="torch")
    raise RecipeError(f"expected a torch.nn.RNN, GRU or LSTM, not {type(module).__name__}")


def copy_from_torch(module: nn.RNNBase, cells: Sequence[Cell]) -> None:
    """Copy the weights of `module` into `cells` (layer after layer, forward before backward), and what is frozen."""
    _copy(module, cells, to_cells=True)


def holds_weights_of(module: nn.RNNBase, cells: Sequence[Cell]) -> bool:
    """Whether `cells` have the weights that `module` has now: some models compute them anew at every call."""
    pairs = _weights(module, cells)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def torch_module(
    cells: Sequence[Cell], num_layers: int, *, bidirectional: bool, batch_first: bool, dropout: float
) -> nn.RNNBase:
    """A `torch.nn` module that computes what `cells` compute, with copies of their weights.

    Raises:
        RecipeError: if torch has no module for these cells.
    """
    cell = cells[0]
    kind: Callable[..., nn.RNNBase]
    if isinstance(cell, LSTM):
        kind = partial(nn.LSTM, proj_size=0 if cell.weight_hr is None else cell.output_size)
    elif isinstance(cell, GRU):
        kind = nn.GRU
    elif isinstance(cell, Elman):
        kind = partial(nn.RNN, nonlinearity=cell.nonlinearity)
    else:
        raise RecipeError(f"torch.nn has no module for the cell {type(cell).__name__}: only for elman, gru and lstm")
    module = kind(
        cell.input_size,
        cell.hidden_size,
        num_layers,
        bias=cell.bias_ih is not None,
        bidirectional=bidirectional,
        batch_first=batch_first,
        dropout=dropout,
        device=cell.weight_ih.device,
        dtype=cell.weight_ih.dtype,
    )
    _copy(module, cells, to_cells=False)
    return module.train(cell.training)


def _copy(module: nn.RNNBase, cells: Sequence[Cell], *, to_cells: bool) -> None:
    with torch.no_grad():
        for ours, theirs in _weights(module, cells):
            target, source = (ours, theirs) if to_cells else (theirs, ours)
            target.copy_(source)
            target.requires_grad_(source.requires_grad)


def _weights(module: nn.RNNBase, cells: Sequence[Cell]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each weight of the cells with that of the module."""
    directions = 2 if module.bidirectional else 1
    for index, cell in enumerate(cells):
        suffix = f"_l{index // directions}{'_reverse' if index % directions else ''}"
        for name in _NAMES:
            ours = getattr(cell, name)
            if ours is not None:
                yield ours, getattr(module, name + suffix)
