"""The recurrent layer: a cell, run along time, in a stack, in one direction or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from throughtime.cell import Cell
from throughtime.check import at_least, one_of
from throughtime.errors import InputError, RecipeError
from throughtime.layer.assembly import assemble
from throughtime.layer.reversal import reverse_reset, reverse_time
from throughtime.layer.torch_conversion import cell_factory, copy_from_torch, torch_module
from throughtime.layer.validation import check_input, check_lengths, check_reset, check_state
from throughtime.scan import SCANS, run

__all__ = ["Recurrent"]

State = Tensor | tuple[Tensor, ...]


class Recurrent(nn.Module):
    r"""A stack of recurrent layers, in place of `torch.nn.RNN`, `GRU` or `LSTM`, for any cell.

    Its state has the form that torch gives it: h for elman and gru, (h, c) for lstm, each (L * directions, B, H); for
    any other cell it is a tuple of tensors (L * directions, B, ...), in the order of `state_names`.

    Gradients of gradients: the compiled loops lack them (asking is an error that says so), and so do torch's fused
    kernels on CUDA; `scan="loop"` has them always.

    Args:
        cell: a name (`throughtime.cells()`); a factory `(input_size, hidden_size) -> Cell`, such as the class of a
            cell of your own, called once for each layer and direction; or, for one layer in one direction, a `Cell`.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bidirectional: whether a second stack of cells reads backwards; the outputs are concatenated at each layer.
        batch_first: whether x and y (and reset) are (B, T, ...) instead of (T, B, ...); never the state.
        dropout: probability of a zero in the outputs of each layer but the last, in training.
        proj_size: features to which an LSTM's output is projected; 0 for none.
        init: the named cell's initialisation; its own default unless given.
        scan: "auto", the fastest that serves; "loop", plain torch, which serves always; "compiled" (our loop in C++),
            "fused" (torch's kernel), "diagonal" (all steps of a linear recurrence at once) and "chunkwise" (matrix
            products for a matrix state), each an error where it cannot; "checkpoint", whose memory grows as the square
            root of T; or "mixed" (bfloat16 products in training).

    Attributes:
        cells: layer after layer, forward before backward.
        output_size: features of y.

    Raises:
        RecipeError: if a choice is unknown, out of range or does not fit the others.

    Example:
        >>> layer = Recurrent("lstm", 8, 16, num_layers=2)
        >>> y, (h, c) = layer(torch.zeros(5, 3, 8))
        >>> y.shape, h.shape
        (torch.Size([5, 3, 16]), torch.Size([2, 3, 16]))
        >>> y, state = layer.step(torch.zeros(3, 8), (h, c))
        >>> y.shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        cell: str | Callable[[int, int], Cell] | Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
        init: str | None = None,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        at_least("num_layers", num_layers, 1)
        if not 0 <= dropout <= 1:
            raise RecipeError(f"dropout must lie between 0 and 1, not at {dropout:g}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.batch_first = batch_first
        self.dropout = dropout
        self.scan = one_of("scan", scan, SCANS)

        self.cells = nn.ModuleList(
            assemble(cell, input_size, hidden_size, num_layers, self._num_directions, init=init, proj_size=proj_size)
        )
        first = self._cell(0)
        self.output_size = first.output_size * self._num_directions
        if scan == "fused" and first.torch_kernel is None:
            raise RecipeError(
                f"scan='fused' does not fit the cell {type(first).__name__}, for which torch has no kernel: "
                "use scan='auto' or scan='loop'"
            )

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run all layers over whole sequences. T = 0 and B = 0 give empty outputs, and the state as it was.

        Args:
            x: (T, B, I), or (B, T, I) with `batch_first`, or a PackedSequence.
            state: before the first step (for a backward direction: before the last valid one); the cell's initial
                state unless given.
            lengths: of each sequence, from 0 to T. Outputs beyond are zero, the final state is that of the last valid
                step, and a backward direction starts there.
            reset: (T, B) bool, or (B, T) with `batch_first`. Where True, the cell's initial state (not `state`) takes
                the state's place before step t; a backward direction is cut at the same boundary, on its way from t
                to t-1.

        Returns:
            y (T, B, output_size), laid out as x and a PackedSequence if x is one; the final state.

        Raises:
            InputError: if a shape, dtype or device is wrong, or a length is out of range.
        """
        if isinstance(x, PackedSequence):
            return self._run_packed(x, state, lengths, reset)
        return self._run_padded(x, state, lengths, reset)

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step of all layers, with the numbers that `forward` gives.

        Args:
            x: (B, I).
            state: as `forward` takes and returns it; the cell's initial state unless given.

        Returns:
            y (B, output_size) and the next state.

        Raises:
            InputError: if the layer is bidirectional, or a shape, dtype or device is wrong.
        """
        if self.bidirectional:
            raise InputError("a bidirectional layer cannot step: its backward direction starts at the end")
        check_input(x, "(B, I)", self.input_size, self._parameter())
        y, final = x, []
        starts = self._split(state, x.size(0), x)
        for layer, (cell, start) in enumerate(zip(self._each_cell(), starts, strict=True)):
            after, y = cell.step(cell.project(self._between(y, layer).unsqueeze(0)).squeeze(0), start)
            final.append(after)
        return y, self._join(final)

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state from which `forward` starts unless one is given."""
        return self._join([cell.initial_state(batch, device=device, dtype=dtype) for cell in self._each_cell()])

    def reset_parameters(self) -> None:
        """Draw all parameters of all cells anew."""
        for cell in self._each_cell():
            cell.reset_parameters()

    @classmethod
    def from_torch(cls, module: nn.RNNBase, *, scan: str = "auto") -> Recurrent:
        """A layer with copies of the weights of a torch.nn.RNN (tanh), GRU or LSTM, that gives the same numbers.

        Raises:
            RecipeError: if there is no cell for that module.

        Example:
            >>> Recurrent.from_torch(nn.GRU(4, 8, batch_first=True))
            Recurrent(
              4, 8, batch_first=True
              (cells): ModuleList(
                (0): GRU(4, 8)
              )
            )
        """
        layer = cls(
            cell_factory(module),
            module.input_size,
            module.hidden_size,
            module.num_layers,
            bidirectional=module.bidirectional,
            batch_first=module.batch_first,
            dropout=module.dropout,
            scan=scan,
        )
        weight = cast(Tensor, module.weight_ih_l0)
        layer.to(weight.device, weight.dtype)
        copy_from_torch(module, list(layer._each_cell()))
        return layer.train(module.training)

    def to_torch(self) -> nn.RNNBase:
        """A torch.nn.RNN, GRU or LSTM with copies of the weights, that gives the same numbers.

        Raises:
            RecipeError: if torch has no module for this cell.
        """
        return torch_module(
            list(self._each_cell()),
            self.num_layers,
            bidirectional=self.bidirectional,
            batch_first=self.batch_first,
            dropout=self.dropout,
        )

    def extra_repr(self) -> str:
        """The choices that differ from their defaults, for `print`."""
        shown = [str(self.input_size), str(self.hidden_size)]
        shown += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        shown += ["bidirectional=True"] if self.bidirectional else []
        shown += ["batch_first=True"] if self.batch_first else []
        shown += [f"dropout={self.dropout:g}"] if self.dropout else []
        shown += [f"scan={self.scan!r}"] if self.scan != "auto" else []
        return ", ".join(shown)

    @property
    def _num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _cell(self, index: int) -> Cell:
        return cast(Cell, self.cells[index])

    def _each_cell(self) -> Iterator[Cell]:
        return (self._cell(index) for index in range(len(self.cells)))

    def _parameter(self) -> Tensor | None:
        return next(self.cells.parameters(), None)

    def _run_padded(
        self, x: Tensor, state: State | None, lengths: Tensor | Sequence[int] | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        check_input(x, "(B, T, I)" if self.batch_first else "(T, B, I)", self.input_size, self._parameter())
        if reset is not None:
            check_reset(reset, "(B, T)" if self.batch_first else "(T, B)", (x.size(0), x.size(1)), x.device)
        if self.batch_first:
            x, reset = x.transpose(0, 1), None if reset is None else reset.t()
        if lengths is not None:
            lengths = check_lengths(lengths, x.size(0), x.size(1), x.device)
        y, final = self._stack(x, self._split(state, x.size(1), x), lengths, reset)
        return y.transpose(0, 1) if self.batch_first else y, self._join(final)

    def _run_packed(
        self, x: PackedSequence, state: State | None, lengths: object, reset: Tensor | None
    ) -> tuple[PackedSequence, State]:
        if lengths is not None:
            raise InputError("lengths must be left out for a PackedSequence, which holds them already")
        padded, held = pad_packed_sequence(x, batch_first=self.batch_first)
        y, final = self._run_padded(padded, state, held, reset)
        if x.sorted_indices is not None:
            y = y.index_select(0 if self.batch_first else 1, x.sorted_indices)
            held = held[x.sorted_indices.to(held.device)]
        data = pack_padded_sequence(y, held, batch_first=self.batch_first).data
        return PackedSequence(data, x.batch_sizes, x.sorted_indices, x.unsorted_indices), final

    def _stack(
        self, x: Tensor, starts: list[tuple[Tensor, ...]], lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """All layers, time first; the states are those of each cell, and each tensor (B, ...)."""
        turned = reverse_reset(reset, lengths) if self.bidirectional and reset is not None else None
        y, final = x, []
        for layer in range(self.num_layers):
            index = layer * self._num_directions
            below = self._between(y, layer)
            y, after = run(self.scan, self._cell(index), below, starts[index], reset, lengths)
            final.append(after)
            if self.bidirectional:
                below = reverse_time(below, lengths)
                back, after = run(self.scan, self._cell(index + 1), below, starts[index + 1], turned, lengths)
                final.append(after)
                y = torch.cat([y, reverse_time(back, lengths)], dim=-1)
        return y, final

    def _between(self, y: Tensor, layer: int) -> Tensor:
        """Dropout between the layer below and `layer`."""
        return F.dropout(y, self.dropout, self.training) if layer and self.dropout else y

    def _split(self, state: State | None, batch: int, x: Tensor) -> list[tuple[Tensor, ...]]:
        """The state of each cell from that of the layer."""
        if state is None:
            return [cell.initial_state(batch, device=x.device, dtype=x.dtype) for cell in self._each_cell()]
        first = self._cell(0)
        example = first.initial_state(1, device=x.device, dtype=x.dtype)
        parts = check_state(state, first.state_names, example, len(self.cells), batch)
        return list(zip(*(part.unbind(0) for part in parts), strict=True))

    def _join(self, states: Sequence[tuple[Tensor, ...]]) -> State:
        """The state of the layer from that of each cell."""
        parts = tuple(torch.stack(part) for part in zip(*states, strict=True))
        bare = len(parts) == 1 and self._cell(0).torch_kernel is not None
        return parts[0] if bare else parts
