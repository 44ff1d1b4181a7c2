"""Recurrent layers on top of each other with dropout that is constant in time."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from throughtime.cell import Cell
from throughtime.layer import Recurrent
from throughtime.model.base import Sizes, State
from throughtime.model.dropout import LockedDropout

__all__ = ["RecurrentStack"]


class RecurrentStack(nn.Module):
    """Layers of one cell; (T, B, E) to (T, B, H).

    Args:
        cell: the name of a cell.
        sizes: E is what comes in; the same features are dropped at every step of a window.
        start: the named initialisation of the cell, or None for its own.
    """

    def __init__(self, cell: str, sizes: Sizes, *, start: str | None) -> None:
        super().__init__()
        inputs = [sizes.embedding_size] + [sizes.hidden_size] * (sizes.num_layers - 1)
        layers = [Recurrent(cell, size, sizes.hidden_size, init=start, scan=sizes.scan) for size in inputs]
        self.layers = nn.ModuleList(layers)
        self.dropout = LockedDropout(sizes.dropout)
        self._bare_state = isinstance(layers[0].initial_state(1), Tensor)

    def initial_state(self, batch: int) -> State:
        """Every layer's state in turn, each tensor (1, B, ...)."""
        like = next(self.parameters())
        states = [layer.initial_state(batch, device=like.device, dtype=like.dtype) for layer in self._each_layer()]
        return tuple(part for state in states for part in _parts(state))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, E) and a state to (T, B, H) and the state after the last step."""
        per_layer = len(state) // len(self.layers)
        final: list[Tensor] = []
        for depth, layer in enumerate(self._each_layer()):
            own = state[depth * per_layer : (depth + 1) * per_layer]
            y, after = layer(x, own[0] if self._bare_state else own)
            final += _parts(after)
            x = self.dropout(y)
        return x, tuple(final)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step, with the numbers that `forward` gives outside training.

        Args:
            x: (B, E).
            state: as `forward` takes it.

        Returns:
            (B, H) and the next state.
        """
        per_layer = len(state) // len(self.layers)
        final: list[Tensor] = []
        for depth, layer in enumerate(self._each_layer()):
            own = state[depth * per_layer : (depth + 1) * per_layer]
            x, after = layer.step(x, own[0] if self._bare_state else own)
            final += _parts(after)
        return x, tuple(final)

    @property
    def state_names(self) -> tuple[str, ...]:
        """One name for each tensor of the state: the cell's, with the number of the layer."""
        cells = [cast(Cell, layer.cells[0]) for layer in self._each_layer()]
        return tuple(f"{name}_{depth}" for depth, cell in enumerate(cells) for name in cell.state_names)

    def _each_layer(self) -> list[Recurrent]:
        return [layer for layer in self.layers if isinstance(layer, Recurrent)]


def _parts(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state
