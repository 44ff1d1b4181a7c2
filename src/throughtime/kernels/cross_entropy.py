"""The cross-entropy of bfloat16 logits and its gradient in one pass over them, as a torch operator."""

from __future__ import annotations

import torch
from torch import Tensor

from throughtime.kernels.binding import CrossEntropy, library

__all__ = ["cross_entropy_"]

_NAME = "throughtime::cross_entropy_"


def cross_entropy_(logits: Tensor, offset: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each row; the gradient of their mean takes the place of the logits.

    The caller has seen that `library().mixed`. It has no gradient.

    Args:
        logits: (N, V) bfloat16, dense; overwritten.
        offset: (V,) float32, added to every row.
        targets: (N,) int64, each from 0 to V - 1.

    Returns:
        The losses (N,) in nats, and the gradient (V,) of their mean by `offset`; float32.
    """
    losses, d_offset = torch.ops.throughtime.cross_entropy_(logits, offset, targets)
    return losses, d_offset


def _run(logits: Tensor, offset: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    found = library()
    assert found is not None, "the caller has seen that there is one"
    assert logits.is_contiguous(), "the gradient takes the place of dense logits"
    losses, d_offset = _fake(logits, offset, targets)
    offset, targets = offset.contiguous(), targets.contiguous()
    found.run_cross_entropy(
        CrossEntropy(
            rows=logits.size(0),
            columns=logits.size(1),
            threads=torch.get_num_threads(),
            offset=offset.data_ptr(),
            targets=targets.data_ptr(),
            logits=logits.data_ptr(),
            d_offset=d_offset.data_ptr(),
            losses=losses.data_ptr(),
        )
    )
    return losses, d_offset


def _fake(logits: Tensor, offset: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return offset.new_empty(logits.size(0)), offset.new_empty(offset.size(0))


torch.library.define(_NAME, "(Tensor(a!) logits, Tensor offset, Tensor targets) -> (Tensor, Tensor)")
torch.library.impl(_NAME, "CPU")(_run)
torch.library.register_fake(_NAME)(_fake)
