"""torch's own fused kernels, those behind `torch.nn.RNN`, `GRU` and `LSTM`: one layer, one direction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from throughtime.scan.contract import ScanCell, State, restarted
from throughtime.scan.pieces import cut

__all__ = ["fused", "obstacle"]

_KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "rnn_relu": torch.rnn_relu,
    "rnn_tanh": torch.rnn_tanh,
    "gru": torch.gru,
    "lstm": torch.lstm,
}
_DTYPES = {
    "cpu": (torch.float32, torch.float64),
    "cuda": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
}


def obstacle(cell: ScanCell, x: Tensor) -> str | None:
    """Why `fused` cannot run `cell` on an input such as `x`, or None if it can."""
    if cell.torch_kernel is None:
        return f"torch has no fused kernel for {type(cell).__name__}"
    device = x.device.type
    if device not in _DTYPES:
        return f"torch's fused kernel is not known to give the same numbers on device '{device}'"
    if x.dtype not in _DTYPES[device]:
        return f"torch's fused kernel is not known to give the same numbers for {x.dtype} on device '{device}'"
    if torch.is_autocast_enabled(device) and device == "cpu":
        return "under autocast on a CPU torch's fused kernels do not follow autocast's rules"
    if not x.numel():
        return "there is no step to run"
    return None


def fused(
    cell: ScanCell, x: Tensor, state: State, reset: Tensor | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """Run `cell` by the fused kernel that computes its equations; the caller has seen that `obstacle` is None.

    Resets and lengths cut the rows into pieces, and the kernel runs all pieces in one packed call. On CUDA cuDNN has
    no gradient of the gradient (use `loop` for it), and computes float32 in TF32 unless
    `torch.backends.cudnn.allow_tf32` is False, as in `torch.nn.LSTM`.

    Args:
        cell: whose equations to run.
        x: (T, B, I), not yet projected: the kernel does that too.
        state: before the first step; each tensor (B, ...).
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, ...).
    """
    if lengths is not None and bool((lengths == x.size(0)).all()):
        lengths = None
    if lengths is None and (reset is None or not bool(reset[1:].any())):
        if reset is not None:
            state = restarted(reset[0], cell.initial_state(x.size(1), device=x.device), state)
        return _whole(cell, x, state)

    pieces = cut(torch.zeros_like(x[..., 0], dtype=torch.bool) if reset is None else reset, lengths)
    outputs = x.new_zeros(x.size(0) * x.size(1), cell.output_size)
    if pieces is not None:
        packed, final = _call(cell, x.flatten(0, 1)[pieces.positions], pieces.batch_sizes, pieces.starts(cell, state))
        outputs = outputs.index_copy(0, pieces.positions, packed)
        state = pieces.ends(final, state)
    return outputs.view(*x.shape[:2], -1), state


def _whole(cell: ScanCell, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Rows of T steps each, without a cut."""
    if len(state) == 1 or state[0].shape == state[1].shape:
        return _call(cell, x, None, state)
    # An LSTM with a projection: oneDNN has none and warns when asked, which the packed form does not do.
    batch_sizes = torch.full((x.size(0),), x.size(1))
    outputs, final = _call(cell, x.flatten(0, 1), batch_sizes, state)
    return outputs.view(*x.shape[:2], -1), final


def _call(cell: ScanCell, x: Tensor, batch_sizes: Tensor | None, state: State) -> tuple[Tensor, State]:
    """One kernel call: x (T, B, I), or packed (N, I) with batch_sizes; state (B, ...) in and out."""
    weights = cell.torch_weights()
    if x.is_cuda:
        _flatten_for_cudnn(cell, weights)
    hidden = [part.unsqueeze(0).contiguous() for part in state]
    # "train" matters to cuDNN alone: its backward refuses to run without, even where there is no dropout.
    options = (len(weights) >= 4, 1, 0.0, torch.is_grad_enabled(), False)
    kernel = _KERNELS[str(cell.torch_kernel)]
    start = tuple(hidden) if len(hidden) > 1 else hidden[0]
    if batch_sizes is None:
        outputs, *final = kernel(x, start, weights, *options, False)
    else:
        outputs, *final = kernel(x, batch_sizes, start, weights, *options)
    return outputs, tuple(part.squeeze(0) for part in final)


def _flatten_for_cudnn(cell: ScanCell, weights: list[Tensor]) -> None:
    """Put the weights into one buffer, as cuDNN wants them (else it copies them at every call, and warns)."""
    buffers = {weight.untyped_storage().data_ptr() for weight in weights}
    flat = len(buffers) == 1
    if flat or not torch._use_cudnn_rnn_flatten_weight() or not all(weight.is_leaf for weight in weights):
        return
    mode = ("rnn_relu", "rnn_tanh", "lstm", "gru").index(str(cell.torch_kernel))  # cuDNN's numbers
    hidden_size = weights[0].size(0) // {"rnn_relu": 1, "rnn_tanh": 1, "gru": 3, "lstm": 4}[str(cell.torch_kernel)]
    proj_size = cell.output_size if cell.output_size != hidden_size else 0
    with torch.no_grad(), torch.cuda.device(weights[0].device):
        torch._cudnn_rnn_flatten_weight(
            weights, len(weights), weights[0].size(1), mode, hidden_size, proj_size, 1, False, False
        )
