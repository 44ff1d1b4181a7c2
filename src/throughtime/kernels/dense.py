"""Products of long matrices with small ones, before a loop over time and after it.

They are as fast as torch's where those are fast, and by a fifth faster for the matrices of few hundred units that recurrent
layers have; and a thread that shares its core with another process does less of them, where torch's others wait for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from throughtime.kernels.binding import Dense, library

__all__ = ["CompiledLinear", "transposed_times"]

_LINEAR, _LINEAR_BACKWARD = "throughtime::linear", "throughtime::linear_backward"
_TIMES_TRANSPOSED, _TIMES, _TRANSPOSED_TIMES = range(3)
"""`DenseKind` of native/dense.h."""

_FEWEST_ROWS, _FEWEST_COLUMNS = 64, 16
"""Below, calling costs more than it saves; and so many columns hold a vector of any instruction set."""


class CompiledLinear(TorchFunctionMode):
    """While it is entered, `torch.nn.functional.linear` of (T, B, I) is computed by the compiled products where they serve.

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


def transposed_times(left: Tensor, right: Tensor) -> Tensor:
    """left^T right, the sums over all rows of both: (R, K), (R, N) -> (K, N); without a gradient."""
    fits = left.size(0) >= _FEWEST_ROWS and right.size(1) >= _FEWEST_COLUMNS
    if not fits or library() is None or left.stride(1) != 1 or right.stride(1) != 1:
        return left.t() @ right
    return _run(_TRANSPOSED_TIMES, left, right, None, right.new_empty(left.size(1), right.size(1)))


def _serves(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    if library() is None or x.dim() != 3 or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    same = weight.dtype == x.dtype and (bias is None or bias.dtype == x.dtype) and weight.device == x.device
    return same and x.size(0) * x.size(1) >= _FEWEST_ROWS and x.size(2) == weight.size(1) >= _FEWEST_COLUMNS


def _run(kind: int, left: Tensor, right: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """Fill `out`; left and right are (R, K) and a matrix, each with the numbers of a row side by side."""
    found = library()
    assert found is not None, "the caller has seen that there is one"
    found.advise(out)
    problem = Dense(
        rows=left.size(0),
        depth=left.size(1),
        columns=out.size(1),
        threads=torch.get_num_threads(),
        double_precision=out.dtype == torch.float64,
        left_stride=left.stride(0),
        right_stride=right.stride(0),
        left=left.data_ptr(),
        right=right.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        out=out.data_ptr(),
    )
    found.run_dense(problem, kind)
    return out


def _rows(x: Tensor) -> Tensor:
    """(T, B, I) -> (T B, I) with the numbers of a row side by side."""
    flat = x.flatten(0, 1)
    return flat if flat.stride(1) == 1 else flat.contiguous()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = x.new_empty(x.size(0) * x.size(1), weight.size(0))
    bias = None if bias is None else bias.contiguous()
    return _run(_TIMES_TRANSPOSED, _rows(x), weight.contiguous(), bias, out).view(*x.shape[:2], -1)


def _fake_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.size(0), x.size(1), weight.size(0))


def _linear_backward(d_y: Tensor, x: Tensor, weight: Tensor, by_x: bool, by_weight: bool) -> list[Tensor]:
    """The gradients by x and by the weight, those of them that are wanted."""
    gradients, rows = [], _rows(d_y)
    if by_x:
        out = x.new_empty(rows.size(0), x.size(2))
        gradients.append(_run(_TIMES, rows, weight.contiguous(), None, out).view(x.shape))
    if by_weight:
        gradients.append(transposed_times(rows, _rows(x)))
    return gradients


def _fake_linear_backward(d_y: Tensor, x: Tensor, weight: Tensor, by_x: bool, by_weight: bool) -> list[Tensor]:
    by = [x.new_empty(x.shape)] if by_x else []
    return [*by, weight.new_empty(weight.shape)] if by_weight else by


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    by_x, by_weight, by_bias = ctx.needs_input_grad
    d_bias = d_y.sum((0, 1)) if by_bias else None
    if torch.is_grad_enabled():  # somebody wants the gradient of this gradient
        d_x = d_y @ weight if by_x else None
        return d_x, d_y.flatten(0, 1).t() @ x.flatten(0, 1) if by_weight else None, d_bias
    found = torch.ops.throughtime.linear_backward(d_y, x, weight, by_x, by_weight) if by_x or by_weight else []
    return found[0] if by_x else None, found[-1] if by_weight else None, d_bias


torch.library.define(_LINEAR, "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
torch.library.define(
    _LINEAR_BACKWARD, "(Tensor d_y, Tensor x, Tensor weight, bool by_x, bool by_weight) -> Tensor[]"
)
for _name, _real, _fake in (
    (_LINEAR, _linear, _fake_linear),
    (_LINEAR_BACKWARD, _linear_backward, _fake_linear_backward),
):
    torch.library.impl(_name, "CPU")(_real)
    torch.library.register_fake(_name)(_fake)
torch.library.register_autograd(_LINEAR, _backward, setup_context=_setup_context)
