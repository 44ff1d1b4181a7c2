"""A regulariser that keeps the norm of the gradient through time, in plain PyTorch; `TreatmentPlan.code` prints it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from throughtime.remedy.hooking import outer_recurrences
from throughtime.remedy.starting import recurrent_weights

__all__ = ["Omega", "omega"]


def omega(weight_hh: Tensor, states: Tensor, gradients: Tensor, nonlinearity: str = "tanh") -> Tensor:
    r"""The sum over time of (|v_t W diag(f'(a_{t-1}))| / |v_t| - 1)^2, v_t = d loss / d a_t, mean over sequences.

    a_t = W h_{t-1} + W_ih x_t + b are the sums of a plain recurrent layer, h_t = f(a_t) its states. Like the paper, it
    takes the states and v as given, so that it is a function of W alone: its gradient costs one product a step.

    *Reference*: Pascanu, Mikolov & Bengio 2013, *On the difficulty of training recurrent neural networks*,
    arXiv:1211.5063, equations 9 and 10.

    Args:
        weight_hh: W (H, H).
        states: h (T, B, H).
        gradients: what the loss depends on each state by directly, not through later states (T, B, H).
        nonlinearity: f, "tanh" or "relu".
    """
    states, gradients = states.detach(), gradients.detach()
    slopes = 1 - states.square() if nonlinearity == "tanh" else (states > 0).to(states.dtype)
    fixed, v = weight_hh.detach(), torch.zeros_like(states[0])
    total = weight_hh.new_zeros(())
    for t in range(len(states) - 1, 0, -1):
        v = (gradients[t] + v @ fixed) * slopes[t]
        size = v.norm(dim=-1)
        known = size > 0
        if bool(known.any()):
            ratio = ((v[known] @ weight_hh) * slopes[t - 1][known]).norm(dim=-1) / size[known]
            total = total + (ratio - 1).square().sum() / len(v)
    return total


class Omega:
    """`omega` of all plain recurrent layers of a model: call it after `loss.backward()`.

    It looks at `nn.RNN` and `Recurrent` of elman cells with one layer; for other recurrences there is no such formula.

    Args:
        model: it gets hooks, which note outputs in training.
        weight: of the regulariser against the loss; the paper uses 0.5 to 4.
    """

    def __init__(self, model: nn.Module, weight: float) -> None:
        self.weight = weight
        self.seen: list[tuple[nn.Module, Any]] = []
        for module in outer_recurrences(model):
            if len(list(recurrent_weights(module))) == 1 and not isinstance(module, nn.RNNCellBase):
                module.register_forward_hook(self.note)

    def note(self, module: nn.Module, _: Any, result: Any) -> None:
        """A forward hook: the outputs, whose gradient will be wanted."""
        y = result[0]
        values = y.data if isinstance(y, PackedSequence) else y
        if values.requires_grad:
            values.retain_grad()
            self.seen.append((module, y))

    def __call__(self) -> float:
        """Add the gradient of weight times omega to that of the recurrent matrices; returns omega."""
        total = 0.0
        for module, y in self.seen:
            packed = isinstance(y, PackedSequence)
            gradient = y.data.grad if packed else y.grad
            if gradient is None:
                continue
            if packed:
                states, gradient = (pad_packed_sequence(y._replace(data=data))[0] for data in (y.data, gradient))
            else:
                turned = getattr(module, "batch_first", False)
                states, gradient = (x.transpose(0, 1) if turned else x for x in (y, gradient))
            for owner, weight_hh, _, _ in recurrent_weights(module):
                if weight_hh.size(0) == owner.hidden_size:
                    with torch.enable_grad():
                        found = omega(weight_hh, states, gradient, getattr(owner, "nonlinearity", "tanh"))
                        if not found.requires_grad:  # nothing comes back through any step
                            continue
                        (slope,) = torch.autograd.grad(self.weight * found, weight_hh)
                    weight_hh.grad = slope if weight_hh.grad is None else weight_hh.grad + slope
                    total += float(found.detach())
        self.seen.clear()
        return total
