"""Taps: every state that a recurrent module hands on, put into the graph as a tensor of its own.

A fused kernel has its states inside, where no gradient by them can be asked for. So in a copy of the model each
recurrent module runs step by step, with the same weights and numbers, and what a step hands on goes through an
identity. Whoever reads it, the next step or the layer above, reads it behind that identity: the gradient by it is the
state gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.cell import Cell
from throughtime.layer import Recurrent
from throughtime.layer.torch_conversion import holds_weights_of
from throughtime.measurement.spectrum_calls import recurrent_modules
from throughtime.measurement.tap import Run, Tap
from throughtime.measurement.tap_calls import tap_calls, tap_torch_cell

__all__ = ["tap_inputs", "tap_own_cells", "tap_recurrences"]

State = tuple[Tensor, ...]


class _TappedCell(Cell):
    """A cell whose steps are tapped; without parameters of its own."""

    def __init__(self, cell: Cell, tap: Tap) -> None:
        super().__init__(cell.input_size, cell.hidden_size, output_size=cell.output_size)
        self.cell = cell
        self.state_names = cell.state_names  # type: ignore[misc]  # known only once there is a cell
        self.torch_kernel = cell.torch_kernel  # it decides the form of the layer's state
        self.tap = tap
        self.begins = False

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return self.cell.initial_state(batch, device=device, dtype=dtype)

    def project(self, x: Tensor) -> Tensor:
        self.begins = True
        return self.cell.project(x)

    def step(self, projected: Tensor, state: State) -> tuple[State, Tensor]:
        if self.begins:
            self.tap.begin(state)
            self.begins = False
        after, output = self.cell.step(projected, state)
        tapped, (read,) = self.tap.add(after, (output,))
        return tapped, read

    def reset_parameters(self) -> None:
        self.cell.reset_parameters()


def tap_recurrences(model: nn.Module) -> list[Tap]:
    """Make every recurrent module in `model` run step by step, tapped; `model` is a copy that nobody else uses.

    They are `torch.nn.RNN`, `GRU`, `LSTM` and their cells, and `throughtime.Recurrent`. A subclass with a `forward` of
    its own computes other equations, and is left alone.
    """
    taps: list[Tap] = []
    made_by: dict[Any, tuple[Run, int]] = {}
    for name, module in recurrent_modules(model).items():
        if isinstance(module, Recurrent):
            taps += _tap_layer(name, module, made_by)
        elif isinstance(module, nn.RNNBase):
            layer = Recurrent.from_torch(module, scan="loop")
            taps += _tap_layer(name, layer, made_by)
            object.__setattr__(module, "forward", _as_torch(module, layer))
        else:
            parts = ("h", "c") if isinstance(module, nn.LSTMCell) else ("h",)
            taps.append(tap := Tap(name, parts, made_by=made_by))
            tap_torch_cell(cast(nn.RNNCellBase, module), tap)
    return taps


def tap_own_cells(model: nn.Module, fed_back: dict[str, tuple[int, ...]]) -> list[Tap]:
    """Tap modules that the model calls once a step, at what they return; its state is what they are given back."""
    modules, taps = dict(model.named_modules()), []
    for name, places in fed_back.items():
        taps.append(tap := Tap(name, ()))
        tap_calls(modules[name], tap, places)
    return taps


def tap_inputs(model: nn.Module, is_one_a_step: Callable[[Tensor], bool]) -> list[Tap]:
    """Tap what the `torch.nn.Embedding`s of `model` return, for models whose inputs are ids.

    Args:
        model: a copy that nobody else uses.
        is_one_a_step: whether ids are those of the steps of all sequences, and not, say, of positions.
    """
    taps = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            taps.append(tap := Tap(name or type(module).__name__, ("input",)))
            object.__setattr__(module, "forward", _tapped_once(module.forward, tap, is_one_a_step))
    return taps


def _tap_layer(name: str, layer: Recurrent, made_by: dict[Any, tuple[Run, int]]) -> list[Tap]:
    layer.scan = "loop"
    directions = 2 if layer.bidirectional else 1
    taps: list[Tap] = []
    for index, cell in enumerate(list(layer.cells)):
        depth, backward = divmod(index, directions)
        full = name if len(layer.cells) == 1 else f"{name}.l{depth}" + (".backward" if backward else "")
        tap = Tap(full, cast(Cell, cell).state_names, bool(backward), not layer.bidirectional, made_by=made_by)
        layer.cells[index] = _TappedCell(cast(Cell, cell), tap)
        taps.append(tap)

    def note_lengths(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["x"]
        lengths = pad_packed_sequence(x)[1] if isinstance(x, PackedSequence) else kwargs.get("lengths")
        for tap in taps:
            tap.lengths = None if lengths is None else torch.as_tensor(lengths).to("cpu", torch.int64)

    layer.register_forward_pre_hook(note_lengths, with_kwargs=True)
    return taps


def _as_torch(module: nn.RNNBase, layer: Recurrent) -> Callable[..., Any]:
    """The layer with what `torch.nn.RNN` and the others take besides: one sequence without a batch."""

    def forward(input: Tensor | PackedSequence, hx: Any = None) -> Any:  # noqa: A002  # torch's own names
        _renew(layer, module)
        if isinstance(input, PackedSequence) or input.dim() == 3:
            return layer(input, hx)
        with_batch = None if hx is None else _each(hx, lambda part: part.unsqueeze(1))
        time_first, layer.batch_first = layer.batch_first, False
        y, state = layer(input.unsqueeze(1), with_batch)
        layer.batch_first = time_first
        return y.squeeze(1), _each(state, lambda part: part.squeeze(1))

    return forward


def _renew(layer: Recurrent, module: nn.RNNBase) -> None:
    """Take over weights that are computed anew at each call (weight dropout, weight normalisation).

    Into new cells, since the graph of an earlier call still needs the old ones.
    """
    tapped = [cast(_TappedCell, cell) for cell in layer.cells]
    if not holds_weights_of(module, [each.cell for each in tapped]):
        fresh = Recurrent.from_torch(module, scan="loop")
        for each, cell in zip(tapped, fresh.cells, strict=True):
            each.cell = cast(Cell, cell)


def _each(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(state) if isinstance(state, Tensor) else tuple(change(part) for part in state)


def _tapped_once(
    original: Callable[..., Tensor], tap: Tap, is_one_a_step: Callable[[Tensor], bool]
) -> Callable[..., Tensor]:
    def forward(input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        if not is_one_a_step(input):
            return original(input)
        found = original(input).detach().clone().requires_grad_()
        if tap.recording:
            tap.runs.append(Run([(found,)], (found,)))
        return found

    return forward
