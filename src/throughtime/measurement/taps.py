"""Taps: every state that a recurrent module hands on, put into the graph as a tensor of its own.

A fused kernel has its states inside, where no gradient by them can be asked for. So in a copy of the model each
recurrent module runs step by step, with the same weights and numbers, and what a step hands on goes through an
identity. Whoever reads it, the next step or the layer above, reads it behind that identity: the gradient by it is the
state gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_flatten, tree_unflatten

from throughtime.cell import Cell
from throughtime.layer import Recurrent
from throughtime.layer.torch_conversion import holds_weights_of

__all__ = ["Run", "Tap", "called_once_a_step", "tap_inputs", "tap_own_cells", "tap_recurrences"]

_FUSED = {kind.forward for kind in (nn.RNN, nn.GRU, nn.LSTM)}
_CELLS = {kind.forward for kind in (nn.RNNCell, nn.GRUCell, nn.LSTMCell)}
_OUTPUT = "output"

State = tuple[Tensor, ...]


@dataclass
class Run:
    """One unbroken recurrence: what each step handed on.

    Attributes:
        steps: in the order in which they ran, for each the parts (B, ...).
        last: the state after the last step, as the next call would get it.
    """

    steps: list[State] = field(default_factory=list)
    last: State = ()


@dataclass
class Tap:
    """What one layer in one direction of a module handed on.

    Attributes:
        name: of the module in the model, with the layer and direction where there are several.
        parts: names of what a step hands on: those of the state, and "output" where the output is none of them.
        backward: whether the first step to run is the last one in time.
        runs: one for each time that the recurrence began anew.
    """

    name: str
    parts: tuple[str, ...]
    backward: bool = False
    runs: list[Run] = field(default_factory=list)

    def begin(self, state: State) -> None:
        """A call of the module: it goes on with the last run if it starts from the state that this one ended with."""
        last = self.runs[-1].last if self.runs else ()
        if not last or len(last) != len(state) or not all(map(_equal, last, state)):
            self.runs.append(Run())

    def add(self, state: State, output: Tensor | None = None) -> tuple[State, Tensor]:
        """Tap a step's state, and its output where it is none of the state; both as whoever comes next reads them."""
        tapped = tuple(map(_identity, state))
        shared = next((new for old, new in zip(state, tapped, strict=True) if old is output), None)
        if output is None:
            read, handed = tapped[0], tapped
        elif shared is not None:
            read, handed = shared, tapped
        else:
            read = _identity(output)
            handed = (*tapped, read)
            self.parts = (*self.parts[: len(state)], _OUTPUT)
        run = self.runs[-1]
        run.steps.append(handed)
        run.last = tapped
        return tapped, read


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
        return self.tap.add(*self.cell.step(projected, state))

    def reset_parameters(self) -> None:
        self.cell.reset_parameters()


def tap_recurrences(model: nn.Module) -> list[Tap]:
    """Make every recurrent module in `model` run step by step, tapped; `model` is a copy that nobody else uses.

    They are `torch.nn.RNN`, `GRU`, `LSTM` and their cells, and `throughtime.Recurrent`. A subclass with a `forward` of
    its own computes other equations, and is left alone.
    """
    taps: list[Tap] = []
    inside: set[nn.Module] = set()
    for name, module in list(model.named_modules()):
        if module in inside:
            continue
        name = name or type(module).__name__
        if isinstance(module, Recurrent):
            inside.update(module.modules())
            taps += _tap_layer(name, module)
        elif type(module).forward in _FUSED:
            layer = Recurrent.from_torch(cast(nn.RNNBase, module), scan="loop")
            taps += _tap_layer(name, layer)
            object.__setattr__(module, "forward", _as_torch(cast(nn.RNNBase, module), layer))
        elif type(module).forward in _CELLS:
            taps.append(_tap_calls(name, module, tuple(range(1 + isinstance(module, nn.LSTMCell)))))
    return taps


def tap_own_cells(model: nn.Module, fed_back: dict[str, tuple[int, ...]]) -> list[Tap]:
    """Tap modules that the model calls once a step, at those of their outputs that they are given back."""
    modules = dict(model.named_modules())
    return [_tap_calls(name, modules[name], places) for name, places in fed_back.items()]


def called_once_a_step(model: nn.Module, run: Callable[[], object]) -> dict[str, tuple[int, ...]]:
    """The modules that are given back, at every call, what they returned at the one before: which of their outputs.

    Args:
        model: to watch.
        run: calls it.

    Returns:
        By name, outermost modules alone, the places of those outputs among all tensors returned.
    """
    returned: dict[str, list[Any]] = {}
    fed_back: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if not name:
            continue

        def note(_: nn.Module, args: Any, kwargs: Any, result: Any, name: str = name) -> None:
            given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
            before = enumerate(returned.get(name, []))
            places = {place for place, leaf in before if any(_same_memory(leaf, other) for other in given)}
            if name in returned:
                fed_back[name] = fed_back.get(name, places) & places
            counts[name] = counts.get(name, 0) + 1
            returned[name] = tree_flatten(result)[0]

        handles.append(module.register_forward_hook(note, with_kwargs=True))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found = {name: tuple(sorted(places)) for name, places in fed_back.items() if places and counts[name] > 2}
    return {name: places for name, places in found.items() if not any(name.startswith(f"{o}.") for o in found)}


def tap_inputs(model: nn.Module) -> list[Tap]:
    """Tap what every `torch.nn.Embedding` of `model` returns, for models whose inputs are ids."""
    taps = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            taps.append(tap := Tap(name or type(module).__name__, ("input",)))
            object.__setattr__(module, "forward", _tapped_once(module.forward, tap))
    return taps


def _tap_layer(name: str, layer: Recurrent) -> list[Tap]:
    layer.scan = "loop"
    directions = 2 if layer.bidirectional else 1
    taps = []
    for index, cell in enumerate(list(layer.cells)):
        depth, backward = divmod(index, directions)
        full = name if len(layer.cells) == 1 else f"{name}.l{depth}" + (".backward" if backward else "")
        tap = Tap(full, cast(Cell, cell).state_names, bool(backward))
        layer.cells[index] = _TappedCell(cast(Cell, cell), tap)
        taps.append(tap)
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


def _tap_calls(name: str, module: nn.Module, places: tuple[int, ...]) -> Tap:
    """Tap some of the tensors that each call returns."""
    names = ("h", "c") if len(places) <= 2 else tuple(f"state{place}" for place in places)
    tap = Tap(name, names[: len(places)])
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        last = tap.runs[-1].last if tap.runs else ()
        if not last or not all(any(_same_memory(part, leaf) for leaf in given) for part in last):
            tap.runs.append(Run())
        leaves, structure = tree_flatten(original(*args, **kwargs))
        tapped, _ = tap.add(tuple(leaves[place] for place in places))
        for place, part in zip(places, tapped, strict=True):
            leaves[place] = part
        return tree_unflatten(leaves, structure)

    object.__setattr__(module, "forward", forward)
    return tap


def _tapped_once(original: Callable[..., Tensor], tap: Tap) -> Callable[..., Tensor]:
    def forward(ids: Tensor) -> Tensor:
        found = original(ids).detach().clone().requires_grad_()
        tap.runs.append(Run([(found,)], (found,)))
        return found

    return forward


def _same_memory(one: Any, other: Tensor) -> bool:
    """Whether they are one tensor, perhaps detached between: the recurrence goes on, though its gradient does not."""
    return isinstance(one, Tensor) and one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _identity(part: Tensor) -> Tensor:
    """A tensor of its own in the graph, even where all weights are frozen and nothing before it has a gradient."""
    return part.clone() if part.requires_grad else part.detach().clone().requires_grad_(part.is_floating_point())


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
