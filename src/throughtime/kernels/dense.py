"""Products of long matrices with small ones, before a loop over time and after it.

Their tiles are those of the loop. A thread that shares its core with another process does less of them, where torch's
halves such a product between the threads once and for all, and the others wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from throughtime.kernels.binding import Dense, library

__all__ = ["CompiledLinear", "transposed_times", "transposed_times_and_sums"]

_LINEAR, _LINEAR_BACKWARD = "throughtime::linear", "throughtime::linear_backward"
_TIMES_TRANSPOSED, _TIMES, _TRANSPOSED_TIMES, _COLUMN_SUMS = range(4)
"""`DenseKind` of native/dense.h."""

_FEWEST_ROWS, _FEWEST_COLUMNS = 64, 16
"""Below, calling costs more than it saves; and so many columns hold a vector of any instruction set."""


class CompiledLinear(TorchFunctionMode):
    """While it is entered, `torch.nn.functional.linear` of (T, B, I) is a compiled product where that serves.

    So cells are written with torch's functions alone. The numbers differ from torch's by rounding.

    Example:
        >>> with CompiledLinear():
        ...     y = F.linear(torch.ones(64, 2, 16), torch.ones(16, 16))
        >>> float(y[0, 0, 0])
        16.0
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """As torch calls it."""
        if func is F.linear and not kwargs and _serves(*args):
            x, weight, *bias = args
            return torch.ops.throughtime.linear(x, weight, bias[0] if bias else None)
        return func(*args, **(kwargs or {}))


def transposed_times(left: Tensor, right: Tensor, *more: tuple[Tensor, Tensor]) -> Tensor:
    """left^T right, the sums over all rows of both: (R, K), (R, N) -> (K, N); without a gradient.

    Args:
        left: (R, K).
        right: (R, N).
        more: pairs of others of as many columns, whose products are added.
    """
    if not _fit(left, right):
        return sum((one.t() @ other for one, other in more), left.t() @ right)
    return _computed(*_transposed_times(left, right, more))[0]


def transposed_times_and_sums(
    left: Tensor, right: Tensor, *more: tuple[Tensor, Tensor], summed: Tensor
) -> tuple[Tensor, Tensor]:
    """As `transposed_times`, and with it the sum (S) of the rows of `summed` (R, S)."""
    if not _fit(left, right) or not _in_rows(summed):
        return transposed_times(left, right, *more), summed.sum(0)
    product, *_, sums = _computed(*_transposed_times(left, right, more), _column_sums(summed))
    return product, sums


def _serves(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    if library() is None or x.dim() != 3 or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    same = weight.dtype == x.dtype and (bias is None or bias.dtype == x.dtype) and weight.device == x.device
    return same and x.size(0) * x.size(1) >= _FEWEST_ROWS and x.size(2) == weight.size(1) >= _FEWEST_COLUMNS


class _Wanted(NamedTuple):
    """What is to be computed: of (R, K) and a matrix, each with the numbers of a row side by side, into `out`."""

    kind: int
    left: Tensor
    right: Tensor | None
    bias: Tensor | None
    out: Tensor
    add: bool = False


def _times_transposed(left: Tensor, right: Tensor, bias: Tensor | None) -> _Wanted:
    right, bias = right.contiguous(), None if bias is None else bias.contiguous()
    return _Wanted(_TIMES_TRANSPOSED, left, right, bias, left.new_empty(left.size(0), right.size(0)))


def _times(left: Tensor, right: Tensor) -> _Wanted:
    return _Wanted(_TIMES, left, right.contiguous(), None, left.new_empty(left.size(0), right.size(1)))


def _transposed_times(left: Tensor, right: Tensor, more: Sequence[tuple[Tensor, Tensor]] = ()) -> list[_Wanted]:
    first = _Wanted(_TRANSPOSED_TIMES, left, right, None, right.new_empty(left.size(1), right.size(1)))
    others = ((_rows_side_by_side(one), _rows_side_by_side(other)) for one, other in more)
    return [first, *(first._replace(left=one, right=other, add=True) for one, other in others)]


def _column_sums(left: Tensor) -> _Wanted:
    return _Wanted(_COLUMN_SUMS, left, None, None, left.new_empty(left.size(1)))


def _fit(left: Tensor, right: Tensor) -> bool:
    large = left.size(0) >= _FEWEST_ROWS and right.size(1) >= _FEWEST_COLUMNS
    return large and library() is not None and _in_rows(left) and _in_rows(right)


def _computed(*all_wanted: _Wanted) -> list[Tensor]:
    """All of them in one go: threads meet once for them, and meeting takes long where they share cores."""
    found = library()
    assert found is not None, "the caller has seen that there is one"
    for wanted in all_wanted:
        found.advise(wanted.out)
    found.run_dense([_problem(wanted) for wanted in all_wanted])
    return [wanted.out for wanted in all_wanted]


def _problem(wanted: _Wanted) -> Dense:
    left, right, bias = wanted.left, wanted.right, wanted.bias
    return Dense(
        kind=wanted.kind,
        add=wanted.add,
        rows=left.size(0),
        depth=left.size(1),
        columns=wanted.out.size(-1),
        threads=torch.get_num_threads(),
        double_precision=left.dtype == torch.float64,
        left_stride=left.stride(0),
        right_stride=0 if right is None else right.stride(0),
        left=left.data_ptr(),
        right=None if right is None else right.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        out=wanted.out.data_ptr(),
    )


def _rows(x: Tensor) -> Tensor:
    """(T, B, I) -> (T B, I) with the numbers of a row side by side."""
    return _rows_side_by_side(x.flatten(0, 1))


def _rows_side_by_side(matrix: Tensor) -> Tensor:
    return matrix if _in_rows(matrix) else matrix.contiguous()


def _in_rows(matrix: Tensor) -> bool:
    """Whether the numbers of a row lie side by side, and rows do not overlap: a vector may reach into the next one."""
    return matrix.stride(1) == 1 and matrix.stride(0) >= matrix.size(1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (out,) = _computed(_times_transposed(_rows(x), weight, bias))
    return out.view(*x.shape[:2], -1)


def _fake_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.size(0), x.size(1), weight.size(0))


def _linear_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, by_x: bool, by_weight: bool, by_bias: bool
) -> list[Tensor]:
    """The gradients by x, the weight and the bias, those of them that are wanted."""
    rows, wanted = _rows(d_y), []
    if by_x:
        wanted.append(_times(rows, weight))
    if by_weight:
        wanted += _transposed_times(rows, _rows(x))
    if by_bias:
        wanted.append(_column_sums(rows))
    gradients = _computed(*wanted)
    return [gradients[0].view(x.shape), *gradients[1:]] if by_x else gradients


def _fake_linear_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, by_x: bool, by_weight: bool, by_bias: bool
) -> list[Tensor]:
    wanted = ((by_x, x.shape), (by_weight, weight.shape), (by_bias, weight.shape[:1]))
    return [x.new_empty(shape) for is_wanted, shape in wanted if is_wanted]


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    by_x, by_weight, by_bias = ctx.needs_input_grad
    if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
        d_x = d_y @ weight if by_x else None
        d_weight = d_y.flatten(0, 1).t() @ x.flatten(0, 1) if by_weight else None
        return d_x, d_weight, d_y.sum((0, 1)) if by_bias else None
    found = iter(torch.ops.throughtime.linear_backward(d_y, x, weight, by_x, by_weight, by_bias))
    return tuple(next(found) if wanted else None for wanted in (by_x, by_weight, by_bias))


torch.library.define(_LINEAR, "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
torch.library.define(
    _LINEAR_BACKWARD, "(Tensor d_y, Tensor x, Tensor weight, bool by_x, bool by_weight, bool by_bias) -> Tensor[]"
)
for _name, _real, _fake in (
    (_LINEAR, _linear, _fake_linear),
    (_LINEAR_BACKWARD, _linear_backward, _fake_linear_backward),
):
    torch.library.impl(_name, "CPU")(_real)
    torch.library.register_fake(_name)(_fake)
torch.library.register_autograd(_LINEAR, _backward, setup_context=_setup_context)
