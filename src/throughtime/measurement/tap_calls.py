"""Taps on modules that a model calls once a step in a loop of its own: torch's cells, and those that users write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from throughtime.measurement.tap import Run, Tap, num_rows, same_memory

__all__ = ["called_once_a_step", "tap_calls", "tap_torch_cell"]


def called_once_a_step(
    model: nn.Module, run: Callable[[], object], is_whole: Callable[[Tensor], bool]
) -> dict[str, tuple[int, ...]]:
    """The modules that are given back, at every call, what they returned at the one before: which of their outputs.

    Args:
        model: to watch.
        run: calls it.
        is_whole: whether a tensor holds all steps of all sequences; such a one is not what a step hands on.

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
            given = [leaf for leaf in given if not is_whole(leaf)]
            before = enumerate(returned.get(name, []))
            places = {place for place, leaf in before if any(same_memory(leaf, other) for other in given)}
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


def tap_torch_cell(module: nn.RNNCellBase, tap: Tap) -> None:
    """Tap every call of a `torch.nn.RNNCell`, `GRUCell` or `LSTMCell`."""
    original = module.forward

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002  # torch's own names
        tap.begin(() if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx))
        state = original(input, hx)
        tapped, _ = tap.add((state,) if isinstance(state, Tensor) else state)
        return tapped[0] if isinstance(state, Tensor) else tapped

    object.__setattr__(module, "forward", forward)


def tap_calls(module: nn.Module, tap: Tap, places: tuple[int, ...]) -> None:
    """Tap every call of a module at those of the returned tensors that it is given back, and at the others.

    Args:
        module: whose `forward` is replaced.
        tap: what notes them; it learns what the parts are called.
        places: of those given back, among all tensors returned.
    """
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        tap.go_on(next((run for run in reversed(tap.runs) if _is_given(run, given)), None))
        leaves, structure = tree_flatten(original(*args, **kwargs))
        state = _distinct([leaves[place] for place in places])
        rows = num_rows(state[0])
        tap.parts = ("h", "c")[: len(state)] if len(state) <= 2 else tuple(f"state{n}" for n in range(1, len(state) + 1))
        outputs = _distinct([leaf for leaf in leaves if _is_of(leaf, rows) and not _among(leaf, state)])
        tapped, read = tap.add(state, outputs)
        new = [*zip(state, tapped, strict=True), *zip(outputs, read, strict=True)]
        leaves = [next((after for before, after in new if _among(leaf, (before,))), leaf) for leaf in leaves]
        return tree_unflatten(leaves, structure)

    object.__setattr__(module, "forward", forward)


def _is_given(run: Run, given: list[Tensor]) -> bool:
    return all(any(same_memory(part, leaf) for leaf in given) for part in run.last)


def _is_of(leaf: Any, rows: int) -> bool:
    """Whether it is a tensor with a gradient and something of each sequence."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() > 0 and num_rows(leaf) == rows


def _distinct(leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Each tensor once: an output that is the state too is one variable."""
    found: list[Tensor] = []
    for leaf in leaves:
        if not _among(leaf, tuple(found)):
            found.append(leaf)
    return tuple(found)


def _among(leaf: Any, tensors: tuple[Tensor, ...]) -> bool:
    return isinstance(leaf, Tensor) and any(same_memory(leaf, each) for each in tensors)
