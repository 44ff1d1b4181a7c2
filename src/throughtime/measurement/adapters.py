"""Recurrent modules of other libraries: a stand-in that runs step by step, and the check that it is one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_flatten, tree_map

from throughtime.errors import InputError, RecipeError

__all__ = ["is_adapted", "put_in_stand_ins", "register_adapter"]

_Kind = TypeVar("_Kind", bound=nn.Module)

_ADAPTERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {}

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_COARSE_TOLERANCE = 3e-2  # of half precision


def register_adapter(kind: type[_Kind], adapter: Callable[[_Kind], nn.Module]) -> None:
    """Have `measure` and `spectrum` see into the recurrent modules of another library.

    A fused kernel has its states inside, where nobody can ask for the gradient by them. The adapter makes a stand-in
    for such a module: called as the module is, giving the same numbers from the same weights, and running on what
    throughtime knows: a `throughtime.Recurrent` with a named cell or a `throughtime.Cell` of your own, a
    `torch.nn.RNN`, `GRU` or `LSTM`, or their cells. Where the module is called as a `Recurrent` is, that is the
    stand-in; otherwise a small module around it that turns the arguments round.

    The stand-in is used in a copy of the model, inside the call only. At its first call it is compared there with the
    module itself, both in evaluation mode and in the module's own dtype; other numbers than the module's are an error.
    A subclass with a `forward` of its own computes other equations and needs an adapter of its own.

    Args:
        kind: the type of module; an adapter registered before for it is replaced.
        adapter: a module of that type -> its stand-in.

    Raises:
        RecipeError: if `kind` is no type of module, or `adapter` cannot be called.

    Example:
        >>> from throughtime import Recurrent, measure
        >>> class FusedTanh(nn.Module):  # of another library: weights in one matrix, batch first, a kernel inside
        ...     def __init__(self, size):
        ...         super().__init__()
        ...         self.size, self.weight = size, nn.Parameter(0.2 * torch.randn(size, 2 * size))
        ...     def forward(self, x):
        ...         with torch.no_grad():  # as good as a kernel: nothing inside is in the graph
        ...             h, ys = x.new_zeros(len(x), self.size), []
        ...             for x_t in x.unbind(1):
        ...                 ys.append(h := torch.tanh(torch.cat([x_t, h], 1) @ self.weight.t()))
        ...         return torch.stack(ys, 1)
        >>> class StandIn(nn.Module):
        ...     def __init__(self, fused):
        ...         super().__init__()
        ...         self.rnn = nn.RNN(fused.size, fused.size, bias=False, batch_first=True)
        ...         self.rnn.weight_ih_l0.data, self.rnn.weight_hh_l0.data = fused.weight.data.chunk(2, dim=1)
        ...     def forward(self, x):
        ...         return self.rnn(x)[0]
        >>> register_adapter(FusedTanh, StandIn)
        >>> _ = torch.manual_seed(0)
        >>> record = measure(nn.Sequential(FusedTanh(4), nn.Linear(4, 2)), torch.randn(3, 20, 4), time_dim=1)
        >>> record.top, record.profile.kind
        ('0.rnn', 'state')
    """
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise RecipeError(f"register_adapter takes a type of torch.nn.Module, not {kind!r}")
    if not callable(adapter):
        raise RecipeError(f"the adapter for {kind.__name__} must be callable: module -> its stand-in")
    _ADAPTERS[kind] = adapter


def is_adapted(model: nn.Module) -> bool:
    """Whether a module in `model` has an adapter."""
    return any(_adapter(module) is not None for module in model.modules())


def put_in_stand_ins(model: nn.Module) -> nn.Module:
    """`model`, which is a copy that nobody else uses, with a stand-in for every module that has an adapter.

    Raises:
        InputError: if an adapter fails or gives no module.
    """
    stand_ins: dict[nn.Module, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in list(model.named_modules()):
        adapter = _adapter(module)
        if adapter is not None and module not in inside:
            inside.update(module.modules())
            stand_ins[module] = _stand_in(name or type(module).__name__, module, adapter)
    if model in stand_ins:
        return stand_ins[model]
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in stand_ins:
                setattr(parent, name, stand_ins[child])
    return model


def _adapter(module: nn.Module) -> Callable[[Any], nn.Module] | None:
    for kind in type(module).__mro__:
        if kind in _ADAPTERS and type(module).forward is kind.forward:
            return _ADAPTERS[kind]
    return None


def _stand_in(name: str, module: nn.Module, adapter: Callable[[Any], nn.Module]) -> nn.Module:
    about = f"the adapter for {type(module).__name__} ({name})"
    try:
        stand_in = adapter(module)
    except Exception as error:
        raise InputError(f"{about} fails ({type(error).__name__}: {error})") from error
    if not isinstance(stand_in, nn.Module):
        raise InputError(f"{about} gives {type(stand_in).__name__}: expected a torch.nn.Module that stands in for it")
    stand_in = copy.deepcopy(stand_in).train(module.training)  # it may share weights with the module, which is compared
    reference, twin = copy.deepcopy(module).eval(), copy.deepcopy(stand_in).eval()

    def compare(_: nn.Module, args: Any, kwargs: Any) -> None:
        handle.remove()
        _compare(about, twin, reference, args, kwargs)

    handle = stand_in.register_forward_pre_hook(compare, with_kwargs=True)
    return stand_in


def _compare(about: str, twin: nn.Module, reference: nn.Module, args: Any, kwargs: Any) -> None:
    """Both on the inputs of the first call.

    Raises:
        InputError: if their outputs differ.
    """
    weight = next((p for p in reference.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if weight is None else weight.dtype
    args, kwargs = tree_map(lambda leaf: _in(leaf, dtype), (args, kwargs))
    with torch.random.fork_rng(devices=()), torch.no_grad():
        expected, found = (_tensors(module(*args, **kwargs)) for module in (reference, twin.to(dtype)))
    if [t.shape for t in expected] != [t.shape for t in found]:
        shapes = [[tuple(t.shape) for t in each] for each in (expected, found)]
        raise InputError(f"{about} gives outputs of shapes {shapes[1]}, and the module {shapes[0]}")
    tolerance = _TOLERANCE.get(dtype, _COARSE_TOLERANCE)
    for one, other in zip(expected, found, strict=True):
        largest = max(1e-30, float(one.abs().max())) if one.numel() else 1.0
        difference = float((one - other).abs().max()) / largest if one.numel() else 0.0
        if not difference <= tolerance:
            raise InputError(
                f"{about} gives other numbers than the module: they differ by {difference:.1e} of the largest, "
                f"where at most {tolerance:.0e} is rounding"
            )


def _in(leaf: Any, dtype: torch.dtype) -> Any:
    if isinstance(leaf, PackedSequence):
        return leaf.to(dtype)
    return leaf.detach().to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _tensors(found: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(found)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]
