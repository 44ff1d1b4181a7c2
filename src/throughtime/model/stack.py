"""Recurrent layers on top of each other with dropout that is constant in time."""

from __future__ import annotations

from torch import Tensor, nn

from throughtime.layer import Recurrent
from throughtime.model.base import State
from throughtime.model.dropout import LockedDropout

__all__ = ["RecurrentStack"]


class RecurrentStack(nn.Module):
    """`num_layers` layers of one cell; (T, B, I) to (T, B, H).

    Args:
        cell: the name of a cell.
        input_size: I.
        hidden_size: H.
        num_layers: layers.
        start: the named initialisation of the cell, or None for its own.
        dropout: the share of features dropped after every layer, the same ones at every step.
        scan: how the steps are run along time.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        start: str | None,
        dropout: float,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        layers = [
            Recurrent(cell, input_size if depth == 0 else hidden_size, hidden_size, init=start, scan=scan)
            for depth in range(num_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.dropout = LockedDropout(dropout)
        self._bare_state = isinstance(layers[0].initial_state(1), Tensor)

    def initial_state(self, batch: int) -> State:
        """Every layer's state in turn, each tensor (1, B, ...)."""
        like = next(self.parameters())
        states = [layer.initial_state(batch, device=like.device, dtype=like.dtype) for layer in self._each_layer()]
        return tuple(part for state in states for part in _parts(state))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) and a state to (T, B, H) and the state after the last step."""
        per_layer = len(state) // len(self.layers)
        final: list[Tensor] = []
        for depth, layer in enumerate(self._each_layer()):
            own = state[depth * per_layer : (depth + 1) * per_layer]
            y, after = layer(x, own[0] if self._bare_state else own)
            final += _parts(after)
            x = self.dropout(y)
        return x, tuple(final)

    def _each_layer(self) -> list[Recurrent]:
        return [layer for layer in self.layers if isinstance(layer, Recurrent)]


def _parts(state: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state
