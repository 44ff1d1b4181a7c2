"""Another cell in the place of a recurrent module, with the interface that the rest of the model knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from throughtime.cell import Cell
from throughtime.errors import InputError
from throughtime.layer import Recurrent

__all__ = ["CellFactory", "ReplacedCell", "ReplacedLayers"]

CellFactory = Callable[[int, int], Cell]


class _Memory:
    """The parts of a state that an interface has no room for, kept by what was handed out in their place.

    A caller that hands a state back, as it is or detached, gets the whole of it; of a state that was never handed out
    (one of an encoder, say), only the part that is there is used, and the others begin anew.
    """

    def __init__(self) -> None:
        self.handed: Tensor | None = None
        self.whole: Any = None

    def keep(self, handed: Tensor, whole: Any) -> None:
        """What is handed out for which whole."""
        self.handed, self.whole = handed, whole

    def whole_of(self, given: Tensor) -> Any:
        """The whole of a state that comes back; None where it is not known."""
        last = self.handed
        if last is given:
            return self.whole
        if last is None or last.shape != given.shape or not torch.equal(last, given):
            return None
        return self.whole if given.requires_grad else _detached(self.whole)

    def __deepcopy__(self, _: Any) -> _Memory:
        return _Memory()  # what is remembered hangs on a graph, and belongs to another model

    def __reduce__(self) -> Any:
        return (_Memory, ())


class ReplacedLayers(nn.Module):
    """Layers of any cell, called as the `torch.nn.RNN`, `GRU` or `LSTM` that stood here (or the `Recurrent`).

    The outputs are the same in form. The state is too: h (L * directions, B, H) holds the last outputs of each layer
    and direction, and where it was a tuple, (h, c), it is (h, h). Cells with more state than that keep it aside until h
    comes back (see `_Memory`); so one layer must not read two streams in turns. `weight_hh_l0` and the like are gone,
    and `isinstance(..., nn.LSTM)` is no longer true.

    Args:
        old: the module that it replaces; sizes, layout, dropout and the form of the state are taken from it.
        factory: what makes a cell from input and hidden size.
    """

    def __init__(self, old: nn.Module, factory: CellFactory) -> None:
        super().__init__()
        sizes = cast(Any, old)
        self.input_size, self.hidden_size, self.num_layers = sizes.input_size, sizes.hidden_size, sizes.num_layers
        self.bidirectional, self.batch_first, self.dropout = sizes.bidirectional, sizes.batch_first, sizes.dropout
        self.proj_size, self.bias, self.mode = 0, True, "throughtime"
        self.num_parts = _num_parts(old)
        width = self.hidden_size * (2 if self.bidirectional else 1)
        self.layers = nn.ModuleList(
            Recurrent(factory, width if layer else self.input_size, self.hidden_size, bidirectional=self.bidirectional)
            for layer in range(self.num_layers)
        )
        self._memory = _Memory()

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:  # noqa: A002  # the name that torch gave it
        """Inputs and state in, outputs and state out, all as the replaced module has them."""
        x, lengths, packed = self._unpacked(input)
        alone = x.dim() == 2
        x = x.unsqueeze(1) if alone else x
        starts = self._starts(hx, x.size(1), alone)
        finals, lasts = [], []
        for index, (layer, start) in enumerate(zip(self.layers, starts, strict=True)):
            below = nn.functional.dropout(x, self.dropout, self.training) if index and self.dropout else x
            x, final = layer(below, start, lengths=lengths)
            finals.append(final)
            lasts += self._lasts(x, lengths)
        h = torch.stack(lasts)
        handed = h.squeeze(1) if alone else h
        self._memory.keep(handed, finals)
        y = self._packed(x, packed) if packed is not None else self._laid_out(x, alone)
        return y, self._formed(handed)

    def initial_state(self, batch: int, **place: Any) -> Any:
        """What `forward` starts from unless a state is given, in the form in which it takes one."""
        weight = next(self.parameters())
        zeros = weight.new_zeros(self.num_layers * (2 if self.bidirectional else 1), batch, self.hidden_size, **place)
        return self._formed(zeros)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for layer in self.layers:
            cast(Recurrent, layer).reset_parameters()

    def flatten_parameters(self) -> None:
        """Nothing: there is no block of weights that a kernel would want in one piece."""

    def extra_repr(self) -> str:
        """The choices that differ from their defaults, for `print`."""
        return "batch_first=True" if self.batch_first else ""

    def _formed(self, h: Tensor) -> Any:
        """The state in the form that the replaced module has."""
        return (h,) * self.num_parts if self.num_parts else h

    def _unpacked(self, given: Any) -> tuple[Tensor, Tensor | None, PackedSequence | None]:
        """(T, B, I), lengths and the packed sequence, if it is one."""
        if isinstance(given, PackedSequence):
            x, lengths = pad_packed_sequence(given)
            return x, lengths, given
        return given.transpose(0, 1) if self.batch_first and given.dim() == 3 else given, None, None

    def _packed(self, y: Tensor, like: PackedSequence) -> PackedSequence:
        _, lengths = pad_packed_sequence(like)
        order = like.sorted_indices
        if order is not None:
            y, lengths = y.index_select(1, order), lengths[order.cpu()]
        data = pack_padded_sequence(y, lengths).data
        return PackedSequence(data, like.batch_sizes, order, like.unsorted_indices)

    def _laid_out(self, y: Tensor, alone: bool) -> Tensor:
        if alone:
            return y.squeeze(1)
        return y.transpose(0, 1) if self.batch_first else y

    def _lasts(self, y: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """(B, H) for each direction: the outputs of its last step; a backward direction ends at the first one."""
        rows = torch.arange(y.size(1), device=y.device)
        last = y[-1] if lengths is None else y[lengths.to(y.device) - 1, rows]
        if not self.bidirectional:
            return [last]
        return [last[:, : self.hidden_size], y[0, :, self.hidden_size :]]

    def _starts(self, given: Any, batch: int, alone: bool) -> list[Any]:
        """The state of each layer; None for the cell's own."""
        own: list[Any] = [None] * self.num_layers
        if given is None:
            return own
        h = given[0] if isinstance(given, tuple) else given
        whole = self._memory.whole_of(h)
        if whole is not None:
            return list(whole)
        h = h.unsqueeze(1) if alone else h
        expected = (self.num_layers * (2 if self.bidirectional else 1), batch, self.hidden_size)
        if tuple(h.shape) != expected:
            raise InputError(f"the state must have the shape {expected}, not {tuple(h.shape)}")
        if not bool(h.any()):
            return own
        return [_with_first(layer, part) for layer, part in zip(self.layers, h.chunk(self.num_layers), strict=True)]


class ReplacedCell(nn.Module):
    """One step of any cell, called as the `torch.nn.RNNCell`, `GRUCell` or `LSTMCell` that stood here.

    Args:
        old: the module that it replaces.
        factory: what makes a cell from input and hidden size.
    """

    def __init__(self, old: nn.RNNCellBase, factory: CellFactory) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = old.input_size, old.hidden_size, True
        self.has_pair = isinstance(old, nn.LSTMCell)
        self.layer = Recurrent(factory, old.input_size, old.hidden_size)
        self._memory = _Memory()

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  # the name that torch gave it
        """From x (B, I) and the state of the replaced cell -> its next state."""
        alone = input.dim() == 1
        x = input.unsqueeze(0) if alone else input
        h = hx[0] if isinstance(hx, tuple) else hx
        whole = None if h is None else self._memory.whole_of(h)
        if whole is None and h is not None and bool(h.any()):
            whole = _with_first(self.layer, (h.unsqueeze(0) if alone else h).unsqueeze(0))
        y, state = self.layer.step(x, whole)
        handed = y.squeeze(0) if alone else y
        self._memory.keep(handed, state)
        return (handed, handed) if self.has_pair else handed

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.layer.reset_parameters()


def _num_parts(old: Any) -> int:
    """Parts of the tuple that a module has for its state; 0 where that is a bare tensor."""
    if isinstance(old, nn.RNNBase):
        return 2 if isinstance(old, nn.LSTM) else 0
    state = old.initial_state(1)
    return len(state) if isinstance(state, tuple) else 0


def _with_first(layer: Any, h: Tensor) -> Any:
    """The initial state of a layer with h (directions, B, H) in the place of its first part, where that fits."""
    own = layer.initial_state(h.size(1), device=h.device, dtype=h.dtype)
    if isinstance(own, Tensor):
        return h
    return (h, *own[1:]) if own[0].shape == h.shape else own


def _detached(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach()
    return type(state)(_detached(part) for part in state)
